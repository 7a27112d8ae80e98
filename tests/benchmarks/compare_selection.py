"""Ask on recorded curves what selecting by fresh draws is worth, against the paper's rule.

    python tests/benchmarks/compare_selection.py numbers
    python tests/benchmarks/compare_selection.py awa1

Each way has the same budget of epochs of single executions, what it confirms with included:

- *the paper's rule*: random configurations, each trained to its last epoch, and of those the one
  with the highest mean of five executions (at its best epoch);
- *stopped early*: Sobol points and ASHA, the project's defaults, with a patience of 10, and the
  highest mean;
- *and confirmed*: the same, but the contenders, as ``confirm`` chooses them, meet five fresh draws,
  and the highest mean on those is selected.

A seed chooses which recorded draws are met, which are fresh and which judge what was selected, all
different. Where few configurations have further draws (``--further-for`` of the recorder), all
seeds meet the first five. A seed in which a contender has none is left out, and counted.
"""

import argparse
import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from compare_searches import interval
from compare_warm_start import as_recorded
from curve_table import FOLDER
from replay import EXECUTIONS, Replay, Search, World, load_curves

from tuning.engine.confirmation import contenders
from tuning.engine.stopping import SCHEDULERS
from tuning.events.ledger import Ended

FRESH = 5
"""Draws of a confirmation; five more judge."""
FURTHER = FRESH + 5
NO_PATIENCE = 10_000


@dataclass(frozen=True)
class Found:
    """What a way selected.

    Attributes:
        score: Mean H that it was selected by: of the draws met, or of the fresh ones.
        truth: Mean H of the judging draws at the same epoch.
        trials: How many configurations were tried.
        confirmed: How many were confirmed.
    """

    score: float
    truth: float
    trials: int
    confirmed: int


class UnrecordedError(Exception):
    """A configuration has no further draws."""


class Judges:
    """The further draws of a seed: some are fresh ones for a confirmation, the others judge."""

    def __init__(self, curves, fresh, judging):
        self._curves, self._fresh, self._judging = curves, fresh, judging

    def fresh(self, row, epoch):
        return self._mean(self._fresh, row, epoch)

    def truth(self, row, epoch):
        value = self._mean(self._judging, row, epoch)
        return 0.0 if math.isnan(value) else value

    def _mean(self, draws, row, epoch):
        """Return mean H; NaN where one of the draws had diverged by then."""
        if (self._curves.lasting[row, draws] < 0).any():
            raise UnrecordedError
        return float(self._curves.objectives[row, draws, epoch - 1].mean())


def divided(curves, seed):
    """Return the world of a search, and the judges of what it selects."""
    random = np.random.default_rng([seed, 17])
    everything = (curves.lasting >= 0).all()
    order = random.permutation(curves.draws)
    if not everything:
        order = np.concatenate(
            [np.arange(EXECUTIONS), EXECUTIONS + random.permutation(curves.draws - EXECUTIONS)]
        )
    mine, fresh, judging = map(np.sort, np.split(order, [EXECUTIONS, EXECUTIONS + FRESH]))
    return World.meeting(curves, mine, judging), Judges(curves, fresh, judging)


def searched(world, seed, search):
    """Return a search's trials in the order of their ends, each with what was computed by then."""
    history = Replay(world, search, seed).run()
    trials = {t.number: t for t in as_recorded(world, history, "replayed").trials}
    ends = zip(history.events, history.executions, strict=True)
    spent = {e.number: done for e, done in ends if isinstance(e, Ended)}
    return history.rows, [(trials[n], done) for n, done in spent.items() if n in trials]


def ranked(ended):
    """Return those that may be selected, the best first."""
    able = [trial for trial, _ in ended if trial.is_candidate]
    return sorted(able, key=lambda trial: (-trial.score, trial.number))


def by_score(world, judges, seed, search):
    """Select by the score alone."""
    rows, ended = searched(world, seed, search)
    best = ranked(ended)[0]
    return Found(best.score, judges.truth(rows[best.number], best.best_epoch), len(ended), 0)


def confirmed(world, judges, seed, search):
    """Select by fresh draws, which the budget pays for: the search ends so much earlier."""
    rows, ended = searched(world, seed, search)
    while True:
        chosen = contenders(ranked(ended))
        if ended[-1][1] + FRESH * sum(t.best_epoch for t in chosen) <= search.budget:
            break
        ended.pop()
    scores = {t.number: judges.fresh(rows[t.number], t.best_epoch) for t in chosen}
    best = max(chosen, key=lambda t: np.nan_to_num(scores[t.number], nan=-1))
    truth = judges.truth(rows[best.number], best.best_epoch)
    return Found(scores[best.number], truth, len(ended), len(chosen))


def ways(budget, configurations):
    """Return name → how it selects, and its search."""
    of = {"trials": configurations, "budget": budget}
    whole = Search(sampler="random", scheduler=SCHEDULERS["none"], patience=NO_PATIENCE, **of)
    ours = Search(sampler="qmc", scheduler=SCHEDULERS["asha"], **of)
    return {
        "the paper's rule": (by_score, whole),
        "stopped early": (by_score, ours),
        "and confirmed": (confirmed, ours),
    }


def compare(curves, budget, seeds):
    """Return way → what it selected for each seed, in the same order, and the seeds left out."""
    found, left_out = {}, 0
    for seed in range(seeds):
        world, judges = divided(curves, seed)
        try:
            of = {
                name: select(world, judges, seed, search)
                for name, (select, search) in ways(budget, len(curves.values)).items()
            }
        except UnrecordedError:
            left_out += 1
            continue
        for name, one in of.items():
            found.setdefault(name, []).append(one)
    return found, left_out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", help="name of a recorded table")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--budgets", type=int, nargs="+", default=[3000, 9000])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    curves = load_curves(FOLDER / f"{arguments.table}.parquet", EXECUTIONS, further=FURTHER)
    for budget in arguments.budgets:
        found, left_out = compare(curves, budget, arguments.seeds)
        print(
            f"\n{arguments.table}, {len(curves.values)} configurations, {budget} epochs of single "
            f"executions, {arguments.seeds - left_out} seeds ({left_out} left out)",
            *lines(found), sep="\n", flush=True,
        )  # fmt: skip


def lines(found):
    """Return a line a way: what it promised, what the judges say, and against the paper's rule."""
    first = np.array([one.truth for one in next(iter(found.values()))])
    told = [f"{'':20}{'promised':>9}{'H':>8}{'against':>9}{'95%':>16}{'tried':>7}{'confirmed':>11}"]
    for name, of in found.items():
        truth = np.array([one.truth for one in of])
        low, high = 100 * interval((truth - first)[:, None])[:, 0]
        score, trials, count = (
            np.mean([getattr(one, what) for one in of]) for what in ("score", "trials", "confirmed")
        )
        told.append(
            f"{name:20}{100 * score:9.2f}{100 * truth.mean():8.2f}"
            f"{100 * (truth - first).mean():+9.2f}{low:+8.2f} …{high:+6.2f}"
            f"{trials:7.1f}{count:11.1f}"
        )
    return told


if __name__ == "__main__":
    main()
