"""The state of a study, or of a final training: what follows from its events, and nothing else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tuning.events.event import (
    Closed,
    Completed,
    Ended,
    EpochDone,
    Event,
    Opened,
    Proposed,
    SeedDone,
)
from tuning.spec.objectives import OBJECTIVES, Objective
from tuning.spec.records import STATUSES, StudyDescription, is_candidate, per_execution

MAX_NONFINITE = 50
"""How many of a trial's non-finite figures are remembered; the last epoch's may exceed it."""

_NO_OPENING = "a log must start with an opening"


@dataclass(slots=True)
class WorkTime:
    """How long something was worked on, without the pauses between processes."""

    total_ms: int = 0  # until it was last seen at work
    seen_ms: int = 0  # when that was

    def resume(self, now_ms: int) -> None:
        self.seen_ms = now_ms

    def advance(self, now_ms: int) -> None:
        self.total_ms += max(0, now_ms - self.seen_ms)  # a clock may be set back
        self.seen_ms = max(self.seen_ms, now_ms)

    def seconds(self, now_ms: int) -> float:
        """Return the time until now."""
        return (self.total_ms + max(0, now_ms - self.seen_ms)) / 1000


@dataclass(slots=True)
class TrialState:
    """A trial."""

    proposed: Proposed
    work: WorkTime
    status: str = "running"
    reason: str = ""
    epoch: int = 0
    score: float = math.nan  # the best of its curve; NaN before its first epoch
    best_epoch: int = 0  # 0 for none
    curve: list[float] = field(default_factory=list)  # its value at each epoch, while it runs
    best: Mapping[str, float] = field(default_factory=dict)  # of a running or the best trial only
    executions: int = 0
    values: tuple[float, ...] = ()  # what a sampler maximises, at the best epoch
    nonfinite: list[str] = field(default_factory=list)

    @property
    def number(self) -> int:
        return self.proposed.number

    def learn(self, event: EpochDone, objective: Objective) -> None:
        self.epoch, self.best_epoch, self.score = event.epoch, event.best_epoch, event.score
        self.curve.append(event.metrics.get(objective.value, math.nan))
        if event.best_epoch == event.epoch:
            self.best = event.metrics
            self.executions = len(per_execution(event.metrics, objective.name))
            self.values = tuple(event.metrics.get(name, math.nan) for name in objective.values)
        if len(self.nonfinite) < MAX_NONFINITE:
            self.nonfinite += nonfinite(event)


def nonfinite(event: EpochDone) -> list[str]:
    """Return a description of each figure of an epoch that is not finite."""
    figures = event.metrics.items()
    return [f"{n} = {v} at epoch {event.epoch}" for n, v in figures if not math.isfinite(v)]


class State:
    """What follows from a log.

    What is queried after each event takes constant time, however many trials there are.
    """

    def __init__(self) -> None:
        self.opening: Opened | None = None
        self.work = WorkTime()  # of all processes together
        self.trials: dict[int, TrialState] = {}
        self.best: TrialState | None = None  # so far, of those that did not diverge or fail
        self.chosen: TrialState | None = None  # the best that may be chosen
        self.seeds: list[Mapping[str, float]] = []  # each seed's, or draw's, figures
        self.closed: Closed | None = None  # by the newest process
        self.is_complete = False  # nothing has happened since everything was done
        self._running: dict[int, TrialState] = {}
        self._counts: Counter[str] = Counter()

    @property
    def opened(self) -> Opened:
        if self.opening is None:
            raise ValueError(_NO_OPENING)
        return self.opening

    @property
    def study(self) -> StudyDescription:
        """Return what is known about the log's study."""
        description = self.opened.description
        if not isinstance(description, StudyDescription):
            raise ValueError("the log must be that of a study")  # noqa: TRY004
        return description

    @property
    def objective(self) -> Objective:
        return OBJECTIVES[self.opened.description.objective]

    @property
    def seconds(self) -> float:
        """Return how long it had been worked on at the last event."""
        return self.work.total_ms / 1000

    @property
    def counts(self) -> Counter[str]:
        return +self._counts

    @property
    def running(self) -> list[TrialState]:
        return list(self._running.values())

    @property
    def candidates(self) -> list[TrialState]:
        """Return the trials that ended well and have all their executions."""
        return [trial for trial in self.trials.values() if self._may_be_chosen(trial)]

    def apply(self, event: Event) -> None:
        """Apply an event; an impossible one raises a ``ValueError`` and changes nothing."""
        match event:
            case Opened():
                self._open(event)
                return
            case _ if self.opening is None:
                raise ValueError(_NO_OPENING)
            case Proposed():
                self._propose(event)
            case EpochDone():
                trial = self._running_trial(event.number)
                trial.learn(event, self.objective)
                trial.work.advance(event.time_ms)
                self.best = _better(self.best, trial)
            case Ended():
                self._end(event)
            case SeedDone():
                self.seeds.append(event.metrics)
            case Closed():
                self.closed = event
                for trial in self._running.values():
                    trial.work.advance(event.time_ms)
        if isinstance(event, Proposed | EpochDone | Ended | Completed):
            self.is_complete = isinstance(event, Completed)
        self.work.advance(event.time_ms)

    def _open(self, event: Opened) -> None:
        if self.opening and self.opening.key != event.key:
            raise ValueError("all openings of a log must have the same key")
        self.opening, self.closed = event, None
        for work in (self.work, *(trial.work for trial in self._running.values())):
            work.resume(event.time_ms)

    def _propose(self, event: Proposed) -> None:
        if event.number in self.trials:
            raise ValueError(f"trial {event.number} must be proposed only once")
        trial = TrialState(event, WorkTime(seen_ms=event.time_ms))
        self.trials[event.number] = self._running[event.number] = trial
        self._counts["running"] += 1

    def _end(self, event: Ended) -> None:
        if event.status not in STATUSES or event.status == "interrupted":
            raise ValueError(f"a trial must end as one of {STATUSES[:-1]}, but got {event.status}")
        trial = self._running_trial(event.number)
        del self._running[event.number]
        self._counts.update({"running": -1, event.status: 1})
        trial.status, trial.reason, trial.curve = event.status, event.reason, []
        trial.work.advance(event.time_ms)
        if trial is self.best and not _has_score(trial):
            self.best = _better(*self.trials.values())
        before = self.chosen
        if self._may_be_chosen(trial):
            self.chosen = _better(before, trial)
        for one in (before, trial):  # keep figures of the best only: there may be thousands
            if one and one is not self.chosen:
                one.best = {}

    def _may_be_chosen(self, trial: TrialState) -> bool:
        planned = int(self.study.protocol.get("executions", 0))
        return is_candidate(trial.status, trial.score, trial.executions, planned)

    def _running_trial(self, number: int) -> TrialState:
        if number not in self._running:
            known = self.trials.get(number)
            found = f"has ended ({known.status})" if known else "was never proposed"
            raise ValueError(f"trial {number} must be running, but {found}")
        return self._running[number]


def _has_score(trial: TrialState) -> bool:
    return trial.status not in ("infeasible", "failed") and math.isfinite(trial.score)


def _better(*trials: TrialState | None) -> TrialState | None:
    """Return the trial with the highest score; among equals, the one proposed first."""
    scored = [trial for trial in trials if trial and _has_score(trial)]
    return max(scored, key=lambda trial: (trial.score, -trial.number), default=None)
