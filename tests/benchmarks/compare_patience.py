"""Ask on recorded curves what it is worth to give a trial up sooner, or later.

    python tests/benchmarks/compare_patience.py awa1 --seeds 300 --budget 1000

For each seed the search of the defaults (TPE, ASHA) is replayed with every patience on the same
draws. At parts of the budget two mean scores of the best trial so far are compared, in points more
than with a patience of 10: over the draws that the search met, and over the others, which say what
that is worth. 95% intervals by bootstrap over the seeds.
"""

import argparse
import warnings

import numpy as np
import torch
from compare_searches import interval
from curve_table import FOLDER
from replay import EXECUTIONS, Replay, Search, World, incumbent_at, incumbents, load_curves

from tuning.engine.stopping import SCHEDULERS

PARTS = np.array([0.1, 0.2, 0.35, 0.5, 1.0])
PATIENCES = (2, 3, 4, 5, 7, 10, 30)
BEFORE = PATIENCES.index(10)


def searched(curves, seed, arguments):
    """Return (patiences, seen or true, parts) of the mean score, and how many trials each tried."""
    world = World.of(curves, seed)
    means, trials = [], []
    for patience in PATIENCES:
        search = Search(
            sampler="tpe",
            scheduler=SCHEDULERS["asha"],
            trials=len(curves.values),
            budget=arguments.budget,
            workers=arguments.workers,
            patience=patience,
        )
        history = Replay(world, search, seed).run()
        found = incumbents(world, history)
        when = PARTS * search.budget
        means.append([incumbent_at(found, when, 1, h) for h in (world.mean, world.truth)])
        trials.append(len(history.rows))
    return np.array(means), trials


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", help="name of a recorded table")
    parser.add_argument("--draws", type=int, help="of the table; only whole configurations count")
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--budget", type=int, default=1000, help="epochs of single executions")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    curves = load_curves(FOLDER / f"{arguments.table}.parquet", arguments.draws)
    replayed = [searched(curves, seed, arguments) for seed in range(arguments.seeds)]
    means = 100 * np.array([each for each, _ in replayed])  # seeds, patiences, seen or true, parts
    trials = np.mean([each for _, each in replayed], axis=0)
    print(f"{arguments.table}, {len(curves.values)} configurations, {curves.epochs} epochs; "
          f"budget {arguments.budget / EXECUTIONS:.0f} epochs of {EXECUTIONS} executions, at "
          f"{', '.join(f'{part:.0%}' for part in PARTS)} of it")  # fmt: skip
    for kind, name in enumerate(("seen", "true")):
        base = means[:, BEFORE, kind]
        print(f"{name} score with patience 10: {', '.join(f'{h:.1f}' for h in base.mean(0))}")
        by_patience = means[:, :, kind].swapaxes(0, 1)
        for patience, tried, of in zip(PATIENCES, trials, by_patience, strict=True):
            low, high = interval(of - base)
            told = zip((of - base).mean(0), low, high, strict=True)
            print(f"  {patience:2}: {tried:5.1f} trials  "
                  + "  ".join(f"{m:+.2f} ({a:+.2f} … {b:+.2f})" for m, a, b in told))  # fmt: skip


if __name__ == "__main__":
    main()
