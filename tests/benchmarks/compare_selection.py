"""Ask on recorded curves what this project's way of selecting is worth, against the paper's rule.

    python tests/benchmarks/compare_selection.py numbers
    python tests/benchmarks/compare_selection.py awa1

Each way has the same budget of epochs of single executions, what it confirms with included:

- *the paper's rule*: random configurations, each trained to its last epoch, and of those the one
  with the highest mean H of five executions (at its best epoch);
- *highest score*: the project's sampler, ASHA and patience, and the highest score by the objective;
- *fresh draws*: the same, but the contenders, as ``confirm`` chooses them, meet fresh draws, and
  the highest mean on those is selected;
- *all draws*: the same, by the mean over searched and fresh draws together;
- *all draws, halving*: the same, but only the better half of the contenders goes on to more draws.

A seed chooses which recorded draws are met, which are fresh and which judge what was selected, all
different. Where few configurations have further draws (``--further-for`` of the recorder), all
seeds meet the first five. A seed in which a contender has none is left out, and counted.
"""

import argparse
import dataclasses
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from compare_objectives import JUDGED
from compare_searches import interval
from compare_warm_start import as_recorded
from curve_table import FOLDER
from replay import EXECUTIONS, Replay, Search, World, load_curves

from tuning.engine.confirmation import contenders, halve
from tuning.engine.stopping import SCHEDULERS
from tuning.events.event import Ended
from tuning.spec.objectives import DEFAULT_OBJECTIVE

FRESH = 6
"""Draws of a confirmation; the rest judge."""
FURTHER = 10
NO_PATIENCE = 10_000
PATIENCE = 5


@dataclass(frozen=True)
class Found:
    """What a way selected.

    Attributes:
        score: What was said of it: the mean objective of the draws met, or of the fresh ones.
        truth: The judging draws' mean of that objective.
        judged: The judging draws' mean of each figure of ``JUDGED``, at the same epoch.
        trials: How many configurations were tried.
        confirming: Epochs of single executions spent on fresh draws.
    """

    score: float
    truth: float
    judged: tuple[float, ...]
    trials: int
    confirming: int


class UnrecordedError(Exception):
    """A configuration has no further draws."""


@dataclass(frozen=True)
class Division:
    """The draws of a seed: those that a search meets, fresh ones, and those that judge."""

    met: np.ndarray
    fresh: np.ndarray
    judging: np.ndarray

    @classmethod
    def of(cls, curves, seed):
        random = np.random.default_rng([seed, 17])
        if (curves.lasting >= 0).all():
            order = random.permutation(curves.draws)
        else:
            further = random.permutation(curves.draws - EXECUTIONS)
            order = np.concatenate([np.arange(EXECUTIONS), EXECUTIONS + further])
        return cls(*map(np.sort, np.split(order, [EXECUTIONS, EXECUTIONS + FRESH])))


def figure_of(curves, name, row, draws, epoch):
    """Return a configuration's figure of each draw at an epoch; 0 where a draw had diverged.

    Raises:
        UnrecordedError: A draw was not recorded.
    """
    if (curves.lasting[row, draws] < 0).any():
        raise UnrecordedError
    return np.nan_to_num(curves.figures[name][row, draws, epoch - 1])


class Studied:
    """A replayed search, and what can be selected from it."""

    def __init__(self, curves, division, search, seed):
        self.curves, self.division, self.search = curves, division, search
        self.objective = curves.objective
        world = World.meeting(curves, division.met, division.judging)
        history = Replay(world, search, seed).run()
        trials = {t.number: t for t in as_recorded(world, history, "replayed").trials}
        ends = zip(history.events, history.executions, strict=True)
        spent = {e.number: done for e, done in ends if isinstance(e, Ended)}
        self.rows = history.rows
        self.ended = [(trials[n], done) for n, done in spent.items() if n in trials]

    def by_score(self):
        best = _ranked(self.ended)[0]
        return self._found(best, best.score, len(self.ended), 0)

    def confirmed(self, all_at_once, searched_too):
        """Select by fresh draws, which the budget pays for: the search ends so much earlier.

        Args:
            all_at_once: Whether all contenders meet all fresh draws, rather than as ``halve`` says.
            searched_too: Whether the searched draws count as well.
        """
        ended = list(self.ended)
        while True:
            best, cost = self._chosen(contenders(_ranked(ended)), all_at_once, searched_too)
            if ended[-1][1] + cost <= self.search.budget:
                break
            ended.pop()
        return self._found(best, float(self._fresh(best, FRESH).mean()), len(ended), cost)

    def _chosen(self, chosen, all_at_once, searched_too):
        """Return the best contender, and the epochs of single executions that finding it took."""
        met, ranked = {}, []

        def evaluate(left, count):
            met.update((t.number, count * t.best_epoch) for t in left)
            means = {t.number: self._mean(t, count, searched_too) for t in left}
            ranked[:] = sorted(left, key=lambda t: -means[t.number])
            return ranked

        if all_at_once:
            evaluate(chosen, FRESH)
        else:
            list(halve(chosen, FRESH, evaluate))
        return ranked[0], sum(met.values())

    def _mean(self, trial, draws, searched_too):
        fresh = self._fresh(trial, draws)
        searched = list(trial.per_execution.values()) if searched_too else []
        return float(np.mean([*searched, *fresh]))

    def _fresh(self, trial, draws):
        row = self.rows[trial.number]
        those = self.division.fresh[:draws]
        return figure_of(self.curves, self.objective, row, those, trial.best_epoch)

    def _found(self, trial, score, tried, cost):
        row, judging = self.rows[trial.number], self.division.judging

        def truth(name):
            return float(figure_of(self.curves, name, row, judging, trial.best_epoch).mean())

        return Found(score, truth(self.objective), tuple(map(truth, JUDGED)), tried, cost)


def _ranked(ended):
    """Return those that may be selected, the best first."""
    able = [trial for trial, _ in ended if trial.is_candidate]
    return sorted(able, key=lambda trial: (-trial.score, trial.number))


def selected(curves, division, budget, seed, sampler):
    """Return way → what it selects."""
    of = {"trials": len(curves.values), "budget": budget}
    whole = Search(sampler="random", scheduler=SCHEDULERS["none"], patience=NO_PATIENCE, **of)
    ours = Search(sampler=sampler, scheduler=SCHEDULERS["asha"], patience=PATIENCE, **of)
    plain = dataclasses.replace(curves, objective="harmonic_mean")
    study = Studied(curves, division, ours, seed)
    return {
        "the paper's rule": Studied(plain, division, whole, seed).by_score(),
        "highest score": study.by_score(),
        "fresh draws": study.confirmed(all_at_once=True, searched_too=False),
        "all draws": study.confirmed(all_at_once=True, searched_too=True),
        "all draws, halving": study.confirmed(all_at_once=False, searched_too=True),
    }


def compare(curves, budget, seeds, sampler="tpe"):
    """Return way → what it selected for each seed, in the same order, and the seeds left out."""
    found, left_out = {}, 0
    for seed in range(seeds):
        try:
            of = selected(curves, Division.of(curves, seed), budget, seed, sampler)
        except UnrecordedError:
            left_out += 1
            continue
        for name, one in of.items():
            found.setdefault(name, []).append(one)
    return found, left_out


def lines(found):
    """Return a table in Markdown: the paper's rule, and in points how the others differ from it."""
    told = [
        "| | said | true | " + " | ".join(JUDGED.values()) + " | tried | confirming |",
        "|---|---|---|" + "---|" * len(JUDGED) + "---|---|",
    ]
    base = 100 * np.array([one.judged for one in next(iter(found.values()))])
    for place, (name, of) in enumerate(found.items()):
        score, truth, trials, cost = (
            np.mean([getattr(one, what) for one in of])
            for what in ("score", "truth", "trials", "confirming")
        )
        difference = 100 * np.array([one.judged for one in of]) - base
        cells = (
            [
                f"{mean:+.1f} ({low:+.1f} … {high:+.1f})"
                for mean, low, high in zip(difference.mean(0), *interval(difference), strict=True)
            ]
            if place
            else [f"{mean:.1f}" for mean in base.mean(0)]
        )
        told.append(
            f"| {name} | {100 * score:.1f} | {100 * truth:.1f} | {' | '.join(cells)} "
            f"| {trials:.0f} | {cost:.0f} |"
        )
    return told


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", help="name of a recorded table")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--budgets", type=int, nargs="+", default=[3000, 9000])
    parser.add_argument("--objective", default=DEFAULT_OBJECTIVE)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument(
        "--whole", action="store_true", help="only configurations with all further draws count"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    path = FOLDER / f"{arguments.table}.parquet"
    searched = EXECUTIONS + (FURTHER if arguments.whole else 0)
    further = EXECUTIONS + FURTHER - searched
    curves = load_curves(path, searched, further, arguments.objective)
    for budget in arguments.budgets:
        found, left_out = compare(curves, budget, arguments.seeds, arguments.sampler)
        print(
            f"\n{arguments.table}, {len(curves.values)} configurations, objective "
            f"{arguments.objective}, {arguments.sampler}, {budget} epochs of single executions, "
            f"{arguments.seeds - left_out} seeds ({left_out} left out)",
            *lines(found), sep="\n", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
