"""Confirm the best few configurations of a study on draws that had no part in choosing them.

The best of many noisy means was chosen partly because it was lucky (docs/method.md).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

import ray
from scipy import stats

from mianet.data.search_data import SearchData
from mianet.errors import DivergedError, InputError
from mianet.evaluation import Outcome, summarise
from mianet.validation import score_execution
from tuning.analysis.comparison import paired_difference
from tuning.compute.cluster import Share
from tuning.compute.display import StatusLine
from tuning.compute.waiting import Tasks, TimedResult
from tuning.engine.description import describe_training
from tuning.events.event import Closed, SeedDone
from tuning.events.log import Appendable
from tuning.spec.models import read_settings
from tuning.spec.objectives import CALIBRATION, OBJECTIVES
from tuning.spec.records import COMPUTE_SECONDS, CONFIRMATION, FinalDescription, RecordedTrial

OpenLog: TypeAlias = Callable[[FinalDescription], AbstractContextManager[Appendable]]
"""Opens the log of a confirmation, and makes sure that it is recorded."""

MOST_CONTENDERS = 6
"""The most configurations to confirm, besides the paper's."""
FEWEST_DRAWS = 2
"""Fresh draws that every contender is run on."""
RISK = 0.05
"""Probability, over all others together, of leaving out one that is as good as the best."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The fresh draws of a confirmation: like a study's executions, with later numbers."""

    data: SearchData
    source: str
    numbers: range
    seed: int


def contenders(trials: Sequence[RecordedTrial]) -> list[RecordedTrial]:
    """Return which of some trials, given best first, are worth confirming; the paper's comes last.

    Those are the best by score, and those that the shared draws cannot tell apart from it.
    """
    best, *others = trials
    near = [trial for trial in others if _within_noise(best, trial, len(others))]
    chosen = [best, *near][:MOST_CONTENDERS]
    papers = [trial for trial in trials if trial.is_paper and trial not in chosen]
    return chosen + papers[:1]


def _within_noise(best: RecordedTrial, other: RecordedTrial, comparisons: int) -> bool:
    """Say whether the shared draws cannot tell two trials apart, as one of many comparisons.

    A one-sided Student's t-test, with the risk divided among the comparisons (Bonferroni): the best
    of many is ahead by luck more often than a single pair suggests.
    """
    if not best.per_execution.keys() & other.per_execution.keys():
        return True  # recorded by an earlier version; they cannot be told apart
    difference = paired_difference(best.per_execution, other.per_execution)
    if math.isnan(difference.standard_error):
        return True
    quantile = float(stats.t.ppf(1 - RISK / comparisons, difference.draws - 1))
    return difference.mean <= quantile * difference.standard_error


def fresh_draws(
    trials: Sequence[RecordedTrial], data: SearchData, source: str, count: int
) -> Draws:
    """Return the draws that follow those of the trials' study.

    Args:
        trials: Comparable trials.
        data: What the study searched on.
        source: Where the data came from.
        count: How many draws.

    Raises:
        InputError: The study's record does not say which draws it used.
    """
    protocol = trials[0].protocol
    try:
        first, seed = int(protocol["executions"]), int(protocol["seed"])
    except (KeyError, ValueError) as error:
        raise InputError(
            f"the record of study {trials[0].study} must contain its executions and seed, but "
            f"has {dict(protocol)}; confirm a study of this version, or run a new one"
        ) from error
    return Draws(data=data, source=source, numbers=range(first, first + count), seed=seed)


def halve(
    remaining: list[Any], most: int, evaluate: Callable[[list[Any], int], list[Any]]
) -> Iterator[list[Any]]:
    """Run contenders on fresh draws; the better half advances to twice as many.

    The paper's configuration always advances, so that the best can be compared with it.

    Args:
        remaining: The contenders; ``is_paper`` says which is the paper's configuration.
        most: Fresh draws that the last of them are run on.
        evaluate: Runs contenders on that many draws in all, and returns those that did not diverge,
            the best first.

    Yields:
        After each round, those that are eliminated or done.
    """
    count = min(FEWEST_DRAWS, most)
    while remaining:
        ranked = evaluate(remaining, count)
        advancing = _better_half(ranked) if count < most else []
        yield [each for each in remaining if each not in advancing]
        remaining = advancing
        count = min(2 * count, most) if len(_better_half(remaining)) < len(remaining) else most


def _better_half(ranked: list[Any]) -> list[Any]:
    others = [each for each in ranked if not each.is_paper]
    half = others[: (len(others) + 1) // 2]
    return [each for each in ranked if each.is_paper or each in half]


def confirm(
    trials: Sequence[RecordedTrial],
    draws: Draws,
    share: Share,
    open_log: OpenLog,
    display: StatusLine,
) -> None:
    """Run the contenders among the trials on fresh draws; record each in its own run.

    After two draws, and whenever that number has doubled, the better half advances, by the mean
    over searched and fresh draws. What an earlier confirmation recorded is not run again.

    Args:
        trials: Comparable trials, the best first.
        draws: The fresh draws.
        share: How executions share the cluster.
        open_log: Opens the log of a confirmation.
        display: Where progress is shown.
    """
    chosen = [_Contender(trial) for trial in contenders(trials)]
    display.say(
        f"confirming {len(chosen)} configurations on up to {len(draws.numbers)} fresh draws each, "
        f"{share.workers} at once, {share.each}"
    )
    data, tasks = ray.put(draws.data), Tasks("confirming", share, display)

    def evaluate(remaining: list[_Contender], count: int) -> list[_Contender]:
        numbers = draws.numbers[:count]
        for contender in remaining:
            contender.start(numbers, draws, data, share, tasks)
        for contender in remaining:
            contender.wait(tasks)
        ranked = [contender for contender in remaining if not contender.diverged]
        return sorted(ranked, key=lambda contender: -contender.mean_over(numbers))

    for eliminated in halve(chosen, len(draws.numbers), evaluate):
        for contender in eliminated:
            if contender.timed:
                trial = contender.trial
                description = describe_training(
                    *(trial, draws.data, draws.source, share),
                    kind=CONFIRMATION,
                    role=f"trial {trial.number:03d}",
                    epochs=trial.best_epoch,
                    seeds=list(contender.timed),
                )
                with open_log(description) as log:
                    display.say(f"trial {trial.number}: {contender.record(log)}")
    if not any(contender.timed for contender in chosen):
        display.say("nothing to do: they are all confirmed already")


class _Contender:
    """A trial that is run on fresh draws."""

    def __init__(self, trial: RecordedTrial) -> None:
        self.trial = trial
        self.is_paper = trial.is_paper
        self.timed: dict[int, TimedResult] = {}  # draw → its ``Outcome`` or ``DivergedError``
        self._recorded = trial.fresh_draws
        self._running: dict[int, ray.ObjectRef] = {}

    @property
    def diverged(self) -> list[str]:
        return [str(t.result) for t in self.timed.values() if isinstance(t.result, DivergedError)]

    def start(
        self, numbers: range, draws: Draws, data: ray.ObjectRef, share: Share, tasks: Tasks
    ) -> None:
        """Start the draws that have not been run, unless an earlier run recorded them all."""
        if set(numbers) <= self._recorded.keys():
            return
        for number in numbers:
            if number not in self.timed:
                self._running[number] = tasks.start(
                    score_execution,
                    data,
                    read_settings(self.trial.hyperparameters),
                    epochs=self.trial.best_epoch,
                    execution=number,
                    seed=draws.seed,
                    device=share.device,
                )

    def wait(self, tasks: Tasks) -> None:
        for number, reference in self._running.items():
            self.timed[number] = tasks.wait_for(reference, f"trial {self.trial.number}")
        self._running = {}

    def mean_over(self, numbers: range) -> float:
        """Return the mean of the objective over the searched draws and these fresh ones."""
        fresh = self._recorded if set(numbers) <= self._recorded.keys() else self._figures()[0]
        return statistics.fmean(
            [*self.trial.per_execution.values(), *(fresh[number] for number in numbers)]
        )

    def _figures(self) -> tuple[dict[int, float], list[dict[str, float]]]:
        """Return a mapping of draw number → objective, and all figures of each draw."""
        objective = OBJECTIVES[self.trial.objective]
        outcomes = {n: t.result for n, t in self.timed.items() if isinstance(t.result, Outcome)}
        if not outcomes:
            return {}, []
        summary = summarise(list(outcomes.values()))
        figures = [
            objective.with_metric(metrics.as_dict("val_")) | {CALIBRATION: summary.calibration}
            for metrics in summary.executions
        ]
        return dict(zip(outcomes, (f[objective.metric] for f in figures), strict=True)), figures

    def record(self, log: Appendable) -> str:
        """Record the results of the draws; return them in words."""
        prefix = OBJECTIVES[self.trial.objective].execution_prefix
        scores, figures = self._figures()
        for one in figures:
            log.append(SeedDone(one))
        summary = {
            **{f"{prefix}{number}": score for number, score in scores.items()},
            COMPUTE_SECONDS: sum(one.seconds for one in self.timed.values()),
        }
        status = "failed" if self.diverged else "finished"
        log.append(Closed(status, note="; ".join(self.diverged), summary=summary))
        if self.diverged:
            return f"diverged on {len(self.diverged)} of its fresh draws: {self.diverged[0]}"
        return (
            f"{self.trial.symbol} {100 * self.trial.score:.2f} in the search, "
            f"{100 * statistics.fmean(scores.values()):.2f} on {len(scores)} fresh draws"
        )
