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
from replay import EXECUTIONS, Replay, Search, World, incumbents, load_curves, regret_at
from telling import TELLINGS

from tuning.engine.stopping import SCHEDULERS, successive_halving

MOMENTS = 60
"""At how many equally spaced moments of the budget regret is noted."""
RESAMPLES = 2000


def asha(grace, reduction):
    """Return a builder of ASHA with that first rung and reduction factor."""
    return lambda max_epochs: successive_halving(max_epochs, grace, reduction)


def _samplers(samplers, workers, schedulers):
    return {
        f"{sampler} · {scheduler} · {w}": Search(
            sampler=sampler, scheduler=SCHEDULERS[scheduler], trials=MOST, workers=w, patience=5
        )
        for sampler in samplers
        for scheduler in schedulers
        for w in workers
    }


MOST = 10_000
SUITES = {
    "samplers": lambda: _samplers(
        ("qmc", "random", "tpe", "cmaes", "nsga2"), (1, 8, 16), ("asha",)
    ),
    "samplers-others": lambda: _samplers(
        ("qmc", "random", "tpe", "cmaes"), (1, 16), ("median", "none")
    ),
    "samplers-gp": lambda: _samplers(("qmc", "gp"), (1, 16), ("asha",)),
    "telling": lambda: {
        f"{sampler} · {telling} · {w}": Search(
            sampler=sampler,
            scheduler=SCHEDULERS["asha"],
            trials=MOST,
            workers=w,
            proposer=proposer,
        )
        for sampler, workers in (("tpe", (1, 8, 16)), ("cmaes", (1,)))
        for telling, proposer in TELLINGS.items()
        for w in workers
    },
    "gp-telling": lambda: {
        f"gp · {telling} · 1": Search(
            sampler="gp", scheduler=SCHEDULERS["asha"], trials=MOST, proposer=proposer
        )
        for telling, proposer in TELLINGS.items()
    },
    "schedulers": lambda: {
        **{
            f"asha, grace {g}, reduction {r}": Search(
                sampler="random", scheduler=asha(g, r), trials=MOST
            )
            for g in (1, 2, 3, 5, 8)
            for r in (2, 3, 4)
        },
        **{
            f"{name}, patience {p}": Search(
                sampler="random", scheduler=SCHEDULERS[name], trials=MOST, patience=p
            )
            for name in ("asha", "median", "none")
            for p in (3, 5, 10, 30)
        },
    },
}
"""Suite → how each of its searches is called, and what it is."""


@dataclass(frozen=True)
class Result:
    """One replayed search.

    Attributes:
        name: What the search is called.
        seed: Of the draws and of the sampler.
        by_compute: The true objective of the best so far, at equal parts of the budget of epochs.
        by_time: The same at equal parts of the simulated time that one worker needs for it.
        lowest: The same of the best trial of all that were tried, at its own best epoch.
        top: The highest true mean objective of the table.
        paper: The true mean objective of the paper's configuration.
        trials: How many configurations were tried.
    """

    name: str
    seed: int
    by_compute: list
    by_time: list
    lowest: float
    top: float
    paper: float
    trials: int


def one(world, name, search, seed):
    """Replay a search once."""
    curves = world.curves
    history = Replay(world, search, seed).run()
    found = incumbents(world, history)
    second = EXECUTIONS * np.median(curves.seconds)
    parts = np.linspace(1 / MOMENTS, 1, MOMENTS)
    rows = list(history.rows.values())
    at_best = world.truth[rows, np.nanargmax(np.nan_to_num(world.mean[rows], nan=-1), axis=1)]
    paper_epoch = int(np.nan_to_num(world.mean[0]).argmax())
    return Result(
        name,
        seed,
        (world.best - regret_at(world, found, parts * search.budget, 1)).tolist(),
        (
            world.best
            - regret_at(
                world, found, parts * search.budget / EXECUTIONS * second / search.workers, 0
            )
        ).tolist(),
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
        "second": EXECUTIONS * float(np.median(curves.seconds)),
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
    """Return a line a search: the true objective of what it selects, and against the first's."""
    by_name = grouped(results)
    against = compared(by_name)
    told = [f"{'search':34}{'true':>7}{'against 1st':>13}{'95%':>15}{'tried':>8}{'best tried':>12}"]
    for name, of in by_name.items():
        low, high = 100 * interval(against[name])[:, -1]
        told.append(
            f"{name:34}{100 * np.mean([r.by_compute[-1] for r in of]):7.2f}"
            f"{100 * against[name][:, -1].mean():13.2f}{low:8.2f} …{high:5.2f}"
            f"{np.mean([r.trials for r in of]):8.1f}{100 * np.mean([r.lowest for r in of]):12.2f}"
        )
    top, paper = (100 * np.mean([getattr(r, n) for r in results]) for n in ("top", "paper"))
    return [*told, f"best of the table {top:.2f}, the paper's configuration {paper:.2f}"]


def grouped(results):
    """Return search → its results, by seed."""
    by_name = {}
    for result in sorted(results, key=lambda r: r.seed):
        by_name.setdefault(result.name, []).append(result)
    return by_name


if __name__ == "__main__":
    main()
