"""Ask on recorded curves what a warm start from another data set's study is worth.

    python tests/benchmarks/compare_warm_start.py awa1 numbers --draws 5 15 --budget 1000

For each seed the first table is searched, from cold; the best of that study, chosen as
``--warm-start`` chooses, begin a search of the second table. Beside it runs the same search from
cold, on the same draws and with the same seed. What is told is the true objective of the incumbent,
warm less cold, at parts of the budget, with a bootstrap interval over the seeds.
"""

import argparse
import functools
import warnings

import numpy as np
import torch
from compare_searches import interval
from curve_table import FOLDER
from replay import (
    EXECUTIONS,
    Replay,
    Search,
    TableProposer,
    World,
    incumbents,
    load_curves,
    regret_at,
)

from mianet.config import Hyperparameters
from tuning.engine.samplers import SAMPLERS
from tuning.engine.stopping import SCHEDULERS
from tuning.events.event import Ended, EpochDone
from tuning.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES
from tuning.spec.records import PAPER, RecordedTrial
from tuning.spec.warm_start import EarlierStudy, warm_points

PARTS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""Of the budget, at which the two are compared."""


def searched(world, search, seed):
    """Return what happened in a replayed search, and the incumbent's true objective by part."""
    history = Replay(world, search, seed).run()
    found = incumbents(world, history)
    when = np.array(PARTS) * search.budget
    return history, world.best - regret_at(world, found, when, 1)


def as_recorded(world, history, name):
    """Return a replayed search as the study that it would have been recorded as."""
    names = world.curves.about.names
    best = {e.number: e for e in history.events if isinstance(e, EpochDone)}
    trials = [
        _trial(world, history.rows[e.number], e, best[e.number])
        for e in history.events
        if isinstance(e, Ended) and e.number in best
    ]
    return EarlierStudy(name, "cold", "mianet", names, trials)


def _trial(world, row, ended, last):
    values = dict(zip(world.curves.about.names, world.curves.values[row], strict=True))
    settings = Hyperparameters.from_mapping(values).as_dict()
    of_draws = world.of_draws[row, :, last.best_epoch - 1]
    return RecordedTrial(
        run_id=str(ended.number),
        study="cold",
        study_run_id="",
        study_started=0,
        number=ended.number,
        status=ended.status,
        origin="" if row else PAPER,
        hyperparameters={name: str(value) for name, value in settings.items()},
        score=last.score,
        best_epoch=last.best_epoch,
        final_epochs=last.best_epoch,
        executions=EXECUTIONS,
        planned_executions=EXECUTIONS,
        protocol={},
        data_digest="",
        started=ended.number,
        metrics={OBJECTIVES[world.curves.objective].metric: last.score},
        per_execution=dict(enumerate(of_draws.tolist())),
    )


def compare(source, target, search, seed):
    """Return the true objective of the incumbent by part: from cold, and after a warm start."""
    before, _ = searched(World.of(source, seed), search, seed)
    names = target.about.names
    points = warm_points(
        [as_recorded(World.of(source, seed), before, "source")],
        target.space,
        model="mianet",
        objective=OBJECTIVES[DEFAULT_OBJECTIVE],
        paper=dict(zip(names, target.values[0], strict=True)),
    )
    world = World.of(target, seed)
    warm = Search(
        **{**vars(search), "proposer": functools.partial(TableProposer, warm=points)},
    )
    return searched(world, search, seed)[1], searched(world, warm, seed)[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="table that was searched before")
    parser.add_argument("target", help="table that is searched now")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=["qmc", "tpe"])
    parser.add_argument(
        "--draws", type=int, nargs=2, default=(None, None),
        help="of the two tables; only configurations that have them all count",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--budget", type=int, default=3000, help="epochs of single executions")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tables = [
        load_curves(FOLDER / f"{name}.parquet", draws)
        for name, draws in zip((arguments.source, arguments.target), arguments.draws, strict=True)
    ]
    print(f"{'points, warm less cold':30}" + "".join(f"{part:>18.0%}" for part in PARTS))
    for sampler in arguments.samplers:
        search = Search(
            sampler=sampler,
            scheduler=SCHEDULERS["asha"],
            trials=min(len(curves.values) for curves in tables),
            budget=arguments.budget,
        )
        both = [compare(*tables, search, seed) for seed in range(arguments.seeds)]
        cold, warm = (100 * np.array(of) for of in zip(*both, strict=True))
        low, high = interval(warm - cold)
        told = (
            f"{mean:+7.2f} {a:+.1f}…{b:+.1f}".rjust(18)
            for mean, a, b in zip(np.nanmean(warm - cold, axis=0), low, high, strict=True)
        )
        print(f"{sampler:30}" + "".join(told), flush=True)


if __name__ == "__main__":
    main()
