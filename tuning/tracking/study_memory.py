"""What a recorder remembers of a study: learned from the messages that it sends, or once sent.

A recorder that goes on with a study replays the journal through this, and so knows exactly what
the one before it knew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from tuning.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES
from tuning.spec.records import EXECUTIONS_TAG, NOTE_TAG, OBJECTIVE_TAG, best_figures
from tuning.tracking.run_messages import EndRun, LogValues, Point, ResumeRun, RunMessage, StartRun

SUMMARY_STEP = 0
"""The step of figures that belong to a whole run; epochs count from 1."""


NONFINITE_TAG = "nonfinite_metrics"
_BETWEEN_NONFINITE = "; "


@dataclass
class RunTime:
    """How long a run has been worked on, pauses between two processes left out."""

    since_ms: int = 0
    seen_ms: int = 0
    before_ms: int = 0

    def apply(self, message: RunMessage) -> None:
        """Learn from the times in a message of the run."""
        match message:
            case StartRun(time_ms=time_ms) | ResumeRun(time_ms=time_ms):
                self.before_ms += max(0, self.seen_ms - self.since_ms)
                self.since_ms = self.seen_ms = time_ms
            case EndRun(time_ms=time_ms):
                self.seen_ms = time_ms
            case LogValues():
                self.see(message)

    def see(self, log: LogValues) -> None:
        """Learn that the run, or one nested in it, was at work when this was logged."""
        self.seen_ms = max([self.seen_ms, *(point.time_ms for point in log.points)])

    def seconds(self, now_ms: int) -> float:
        """Return the time until now."""
        return (self.before_ms + now_ms - self.since_ms) / 1000


@dataclass
class TrialMemory:
    """A trial as it is recorded.

    Attributes:
        key: Our key of its run.
        number: Its number in the study.
        name: Its run's name.
        note: What its page says of it before its outcome.
        objective: What its score is of.
        time: How long it has been worked on.
        hyperparameters: All of them.
        status: ``running``, or how it ended.
        epochs: Those that have a recorded figure.
        score: The best objective; of equal bests the first epoch's.
        best_epoch: Its epoch; 0 for none.
        executions: How many executions that epoch has a figure of.
        best: The figures of that epoch, by the names they are recorded under.
        figures: What was recorded of the whole trial.
        nonfinite: The figures that were none, in words.
    """

    key: str
    number: int
    name: str
    note: str
    objective: str = DEFAULT_OBJECTIVE
    time: RunTime = field(default_factory=RunTime)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    status: str = "running"
    epochs: set[int] = field(default_factory=set)
    score: float = math.nan
    best_epoch: int = 0
    executions: int = 0
    best: Mapping[str, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    nonfinite: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, start: StartRun) -> Self:
        """Return a trial that starts."""
        trial = cls(
            start.run,
            int(start.tags["number"]),
            start.name,
            start.tags[NOTE_TAG],
            start.tags.get(OBJECTIVE_TAG, DEFAULT_OBJECTIVE),
        )
        trial.time.apply(start)
        return trial

    @property
    def last_epoch(self) -> int:
        """Return the number of epochs that it came to."""
        return max(self.epochs, default=0)

    def apply(self, message: RunMessage) -> None:
        """Learn what a message tells."""
        self.time.apply(message)
        if isinstance(message, ResumeRun):
            self.status = "running"
        if isinstance(message, LogValues):
            self.hyperparameters = {**self.hyperparameters, **message.params}
            self.status = message.tags.get("status", self.status)
            if EXECUTIONS_TAG in message.tags:
                self.executions = len(json.loads(message.tags[EXECUTIONS_TAG]))
            if NONFINITE_TAG in message.tags:
                self.nonfinite = message.tags[NONFINITE_TAG].split(_BETWEEN_NONFINITE)
            for step, points in _by_step(message.points).items():
                if step == SUMMARY_STEP:
                    self.figures |= points
                else:
                    self._learn_epoch(step, points)

    def with_nonfinite(self, found: Sequence[str]) -> dict[str, str]:
        """Return the tag that names these figures beside those named before."""
        return {NONFINITE_TAG: _BETWEEN_NONFINITE.join([*self.nonfinite, *found])}

    def summary(self) -> dict[str, float]:
        """Return the score and what belongs to it, where there is one."""
        if not self.best_epoch:
            return {}
        return {"score": self.score, "best_epoch": self.best_epoch, **self.best}

    def is_best(self, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Say whether an epoch is better than all before it; of equal ones the first is."""
        score = metrics.get(OBJECTIVES[self.objective].value, -math.inf)
        best = (self.score, -self.best_epoch) if self.best_epoch else (-math.inf, 0)
        return math.isfinite(score) and (score, -epoch) > best

    def _learn_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.epochs.add(epoch)
        if self.is_best(epoch, metrics):
            self.score, self.best_epoch = metrics[OBJECTIVES[self.objective].value], epoch
            self.best = best_figures(metrics)


@dataclass
class StudyMemory:
    """A study as it is recorded.

    Attributes:
        time: How long it has been worked on.
        trials: Its trials by number.
        figures: What was recorded of the whole study.
    """

    time: RunTime = field(default_factory=RunTime)
    figures: dict[str, float] = field(default_factory=dict)
    trials: dict[int, TrialMemory] = field(default_factory=dict)
    _by_key: dict[str, TrialMemory] = field(default_factory=dict)

    def apply(self, message: RunMessage) -> None:
        """Learn what a message tells, of whichever run."""
        if isinstance(message, StartRun) and message.parent:
            trial = TrialMemory.of(message)
            self.trials[trial.number] = self._by_key[trial.key] = trial
        elif message.run in self._by_key:
            self._by_key[message.run].apply(message)
        else:
            self.time.apply(message)
            if isinstance(message, LogValues):
                self.figures |= {point.name: point.value for point in message.points}
        if isinstance(message, LogValues):
            self.time.see(message)


def new_figures(told: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """Return the figures that have not been told like this before."""
    return {name: value for name, value in now.items() if told.get(name) != value}


def _by_step(points: Sequence[Point]) -> dict[int, dict[str, float]]:
    steps: dict[int, dict[str, float]] = {}
    for point in points:
        steps.setdefault(point.step, {})[point.name] = point.value
    return steps
