"""Compare ways of searching on recorded curves: regret against compute, with confidence bands.

    python tests/benchmarks/compare_searches.py numbers samplers
    python tests/benchmarks/compare_searches.py --draw build/search docs/search

The first replays every search of a suite (``SUITES``) with that many seeds and keeps the results;
the second draws plots and writes a table of all results that are there. A seed chooses the draws
that a search meets as well as what its sampler does, and every search of a suite meets the same.
"""

import argparse
import dataclasses
import functools
import json
import multiprocessing
import os
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from curve_table import FOLDER
from replay import Replay, Search, TableProposer, World, incumbents, load_curves, regret_at
from telling import TELLINGS
from tried_samplers import (
    KnownNoiseGPProposer,
    PaperPriorProposer,
    PosteriorGPProposer,
    RandomStartProposer,
)

from tuning.engine.stopping import SCHEDULERS, Stopping, successive_halving

MOMENTS = 60
"""At how many equally spaced moments of the budget regret is noted."""
RESAMPLES = 2000


def asha(first, factor):
    """Return a builder of ASHA with that first rung and reduction factor."""
    return lambda max_epochs: successive_halving(max_epochs, first, factor)


def _samplers(samplers, workers, tried=()):
    """Return searches by samplers of the project, and by proposers of others."""
    proposers = {**dict.fromkeys(samplers, TableProposer), **dict(tried)}
    return {
        f"{name} · {w}": Search(
            sampler=name if name in samplers else samplers[-1],
            scheduler=SCHEDULERS["asha"],
            trials=MOST,
            workers=w,
            proposer=proposer,
        )
        for w in workers
        for name, proposer in proposers.items()
    }


class OneKind(Stopping):
    """Compares every trial with all others, whatever they have chosen from lists."""

    @staticmethod
    def kind_of(configuration):
        return ()


def _kinds():
    return {
        f"{name}, {kind} · {w}": Search(
            sampler="tpe",
            scheduler=scheduler,
            trials=MOST,
            workers=w,
            stopping=stopping,
        )
        for w in (1, 2)
        for kind, stopping in (("one kind", OneKind), ("kinds apart", Stopping))
        for name, scheduler in (
            ("asha", SCHEDULERS["asha"]),
            ("asha, first rung a third", lambda most: successive_halving(most, most // 3, 3)),
            ("median", SCHEDULERS["median"]),
        )
    }


def _schedulers(sampler):
    return {
        name: Search(sampler=sampler, scheduler=scheduler, trials=MOST, patience=patience)
        for name, scheduler, patience in (
            ("asha", SCHEDULERS["asha"], 5),
            *((f"asha, first rung {first}", asha(first, 3), 5) for first in (1, 2, 3, 8)),
            *((f"asha, factor {factor}", asha(5, factor), 5) for factor in (2, 4)),
            ("median", SCHEDULERS["median"], 5),
            ("none", SCHEDULERS["none"], 5),
            ("none, no patience", SCHEDULERS["none"], MOST),
        )
    }


MOST = 10_000
SUITES = {
    "samplers": lambda: _samplers(("qmc", "random", "tpe", "cmaes", "nsga2"), (1, 2, 8, 16)),
    "samplers-gp": lambda: _samplers(
        ("qmc", "gp"),
        (1, 8),
        {"gp, posterior": PosteriorGPProposer, "gp, known noise": KnownNoiseGPProposer},
    ),
    "samplers-prior": lambda: _samplers(("qmc", "tpe"), (1, 8), {"prior": PaperPriorProposer}),
    "samplers-start": lambda: _samplers(
        ("qmc", "tpe"), (1, 8), {"random start": RandomStartProposer}
    ),
    "telling": lambda: {
        f"{telling} · {w}": Search(
            sampler="tpe",
            scheduler=SCHEDULERS["asha"],
            trials=MOST,
            workers=w,
            proposer=proposer,
        )
        for telling, proposer in TELLINGS.items()
        for w in (1, 8)
    },
    "schedulers": lambda: _schedulers("random"),
    "schedulers-tpe": lambda: _schedulers("tpe"),
    "kinds": _kinds,
}
"""Suite → how each of its searches is called, and what it is."""


@dataclass(frozen=True)
class Result:
    """One replayed search.

    Attributes:
        name: What the search is called.
        seed: Of the draws and of the sampler.
        by_compute: The true objective of the best so far, at equal parts of the budget of epochs.
        lowest: The same of the best trial of all that were tried, at its own best epoch.
        top: The highest true mean objective of the table.
        paper: The true mean objective of the paper's configuration.
        trials: How many configurations were tried.
    """

    name: str
    seed: int
    by_compute: list
    lowest: float
    top: float
    paper: float
    trials: int


def one(world, name, search, seed):
    """Replay a search once."""
    history = Replay(world, search, seed).run()
    found = incumbents(world, history)
    parts = np.linspace(1 / MOMENTS, 1, MOMENTS)
    rows = list(history.rows.values())
    at_best = world.truth[rows, np.nanargmax(np.nan_to_num(world.mean[rows], nan=-1), axis=1)]
    paper_epoch = int(np.nan_to_num(world.mean[0]).argmax())
    return Result(
        name,
        seed,
        (world.best - regret_at(world, found, parts * search.budget, 1)).tolist(),
        float(at_best.max()),
        float(world.best),
        float(world.truth[0, paper_epoch]),
        len(rows),
    )


def interval(samples, resamples=RESAMPLES):
    """Return a bootstrap 95% interval of the mean of each column of (seeds, …)."""
    random = np.random.default_rng(0)
    chosen = random.integers(len(samples), size=(resamples, len(samples)))
    return np.nanpercentile(np.nanmean(samples[chosen], axis=1), [2.5, 97.5], axis=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", nargs="?", help="name of a recorded table")
    parser.add_argument("suite", nargs="?", choices=SUITES)
    parser.add_argument("--draws", type=int, help="of the table; only whole configurations count")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--budget", type=int, default=3000, help="epochs of single executions")
    parser.add_argument("--out", type=Path, default=Path("build/search"))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--draw", nargs=2, type=Path, metavar=("RESULTS", "DOCS"))
    arguments = parser.parse_args()
    if arguments.draw:
        from draw_searches import draw

        draw(*arguments.draw)
    else:
        _compare(arguments)


def _compare(arguments):
    curves = load_curves(FOLDER / f"{arguments.table}.parquet", arguments.draws)
    name = f"{arguments.table}-{arguments.suite}"
    names = list(SUITES[arguments.suite]())
    context = multiprocessing.get_context("spawn")
    shared = (curves, arguments.suite, arguments.budget)
    with ProcessPoolExecutor(
        arguments.processes, mp_context=context, initializer=_begin, initargs=shared
    ) as pool:
        work = [(name, seed) for seed in range(arguments.seeds) for name in names]
        results = list(pool.map(_one, work, chunksize=len(names)))
    table = pa.Table.from_pylist([dataclasses.asdict(result) for result in results])
    about = {
        "table": arguments.table,
        "suite": arguments.suite,
        "budget": arguments.budget,
        "configurations": len(curves.values),
        "draws": curves.draws,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = table.replace_schema_metadata({b"about": json.dumps(about).encode()})
    pq.write_table(table, arguments.out / f"{name}.parquet")
    print(*lines(results), sep="\n")


_SHARED: dict = {}


def _begin(curves, suite, budget):
    """Make a worker ready: schedulers are functions, which do not travel."""
    searches = {
        name: dataclasses.replace(search, budget=budget, trials=len(curves.values))
        for name, search in SUITES[suite]().items()
    }
    _SHARED.update(curves=curves, searches=searches)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def _one(work):
    name, seed = work
    return one(_world(seed), name, _SHARED["searches"][name], seed)


@functools.lru_cache(maxsize=2)
def _world(seed):
    return World.of(_SHARED["curves"], seed)


def compared(by_name):
    """Return search → (seeds, moments), the true objective less that of what it is compared with.

    That is the suite's first sampler with as many workers, or else the suite's first search.
    """
    found = {name: np.array([r.by_compute for r in of]) for name, of in by_name.items()}
    first = next(iter(found))
    sampler = first.partition(" · ")[0]
    return {
        name: each - found.get(" · ".join([sampler, *name.split(" · ")[1:]]), found[first])
        for name, each in found.items()
    }


def lines(results):
    """Return a table in Markdown: the true objective of what is selected, and less the first's."""
    by_name = grouped(results)
    against = compared(by_name)
    return [
        "| search | true | less the first's | 95% | at half the budget | 95% | tried | best |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(name, of, against[name]) for name, of in by_name.items()),
    ]


def _row(name, results, against):
    mean = np.mean([result.by_compute[-1] for result in results])
    low, high = 100 * interval(against)
    middle = 100 * np.nanmean(against, axis=0)
    half = MOMENTS // 2 - 1
    tried = np.mean([result.trials for result in results])
    lowest = 100 * np.mean([result.lowest for result in results])
    return (
        f"| {name} | {100 * mean:.1f} | {middle[-1]:+.1f} | {low[-1]:+.1f} … {high[-1]:+.1f} "
        f"| {middle[half]:+.1f} | {low[half]:+.1f} … {high[half]:+.1f} | {tried:.0f} "
        f"| {lowest:.1f} |"
    )


def grouped(results):
    """Return search → its results, by seed."""
    by_name = {}
    for result in sorted(results, key=lambda r: r.seed):
        by_name.setdefault(result.name, []).append(result)
    return by_name


if __name__ == "__main__":
    main()
