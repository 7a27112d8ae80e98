"""What happens in a running search, made known: to the ledger first, then to all who listen."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.tune import Callback

from mianet.config import Settings
from mianet.errors import InputError
from tuning.compute.display import Display, time_words
from tuning.compute.pace import Pace
from tuning.engine.results import BROKEN, EPOCH, INFEASIBLE, NUMBER, TOO_LARGE, as_event
from tuning.engine.searcher import StudySearcher
from tuning.events.ledger import Ended, EpochDone, Event, Ledger, Proposed
from tuning.spec.records import PAPER
from tuning.tracking.recording import StudyRecorder

Listener = Callable[[Event], None]


class Events:
    """Passes on each event of a study, after it is on the disk.

    Args:
        ledger: Where events are kept.
        listeners: Who is told, in this order.

    Attributes:
        failure: Why the disk refused an event, if it did.
    """

    def __init__(self, ledger: Ledger, listeners: Sequence[Listener]) -> None:
        self._ledger = ledger
        self._listeners = tuple(listeners)
        self.failure: InputError | None = None

    def replay(self) -> None:
        """Tell the listeners of the past."""
        for event in self._ledger.events:
            self._tell(event)

    def publish(self, event: Event) -> None:
        """Write an event to the ledger and tell the listeners.

        Raises:
            InputError: The disk refuses it; nobody was told.
        """
        try:
            self._ledger.add(event)
        except InputError as error:
            self.failure = error
            raise
        self._tell(event)

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)


@dataclass
class Standing:
    """A trial as the driver sees it.

    Attributes:
        proposed: What is tried.
        status: ``running``, or how it ended.
        epoch: Epochs reported.
        score: Best so far.
        best_epoch: Where that was.
        reason: Why it ended.
    """

    proposed: Proposed
    status: str = "running"
    epoch: int = 0
    score: float = math.nan
    best_epoch: int = 0
    reason: str = ""

    @property
    def number(self) -> int:
        """Return the trial's number."""
        return self.proposed.number

    @property
    def name(self) -> str:
        """Return what the terminal calls it."""
        return f"trial {self.number}" + (" (paper)" if self.proposed.origin == PAPER else "")


class Standings:
    """How the trials of a study stand.

    What is asked after each event costs the same however many they are.

    Attributes:
        trials: All of them, by number.
        best: The best so far, of those that did not diverge or break.
    """

    def __init__(self) -> None:
        self.trials: dict[int, Standing] = {}
        self.best: Standing | None = None
        self._running: dict[int, Standing] = {}
        self._counts: Counter[str] = Counter()

    def take(self, event: Event) -> None:
        """Learn what happened."""
        if isinstance(event, Proposed):
            standing = self.trials[event.number] = self._running[event.number] = Standing(event)
            self._counts[standing.status] += 1
            return
        standing = self.trials[event.number]
        if isinstance(event, EpochDone):
            standing.epoch = event.epoch
            standing.score, standing.best_epoch = event.score, event.best_epoch
            self.best = max(filter(_has_score, (self.best, standing)), key=_merit, default=None)
        else:
            self._running.pop(event.number, None)
            self._counts.subtract([standing.status])
            self._counts[event.status] += 1
            standing.status, standing.reason = event.status, event.reason
            if standing is self.best and not _has_score(standing):
                self.best = max(filter(_has_score, self.trials.values()), key=_merit, default=None)

    @property
    def counts(self) -> Counter[str]:
        """Return how many trials have each status."""
        return +self._counts

    @property
    def running(self) -> list[Standing]:
        """Return the trials that have not ended."""
        return list(self._running.values())


def _has_score(standing: Standing | None) -> TypeGuard[Standing]:
    return (
        standing is not None
        and standing.status not in ("infeasible", "failed")
        and math.isfinite(standing.score)
    )


def _merit(standing: Standing) -> tuple[float, int]:
    return standing.score, -standing.number


@dataclass(frozen=True)
class Recording:
    """Tells the recorder what happened; of what it has recorded already it takes no notice.

    Attributes:
        recorder: Where the study is recorded.
        settings: The hyperparameters that are not searched.
        device: Where trials train.
    """

    recorder: StudyRecorder
    settings: Settings
    device: str

    def take(self, event: Event) -> None:
        """Record what happened."""
        trial = f"{event.number:05d}"
        if isinstance(event, Proposed):
            self.recorder.trial_started(
                trial,
                event.number,
                self.settings.replace(**event.configuration).as_dict(),
                origin=event.origin,
                device=self.device,
            )
        elif isinstance(event, EpochDone):
            self.recorder.epoch_finished(trial, event.epoch, event.metrics)
        else:
            self.recorder.trial_ended(trial, event.status, reason=event.reason)


@dataclass
class SearchProgress(Callback):
    """Turns what Ray Tune says into events, and shows them: a line a trial, and the status.

    Attributes:
        publish: Makes an event known.
        standings: How the trials stand.
        trials: Trials of the budget.
        max_epochs: Most epochs of a trial.
        searcher: Hands out trials, some of them once more.
        most_retries: How often that is done for a trial whose worker died.
        display: Where a person follows the search.
        pace: Learns how long trials take.
        seconds: How long the search may take; None for no limit.
        symbol: What a score is called.
    """

    publish: Listener
    standings: Standings
    trials: int
    max_epochs: int
    searcher: StudySearcher
    most_retries: int
    display: Display
    pace: Pace
    seconds: float | None = None
    symbol: str = "H"
    retries: Counter[int] = field(default_factory=Counter)
    too_large: dict[int, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot be pickled, as Ray Tune pickles its callbacks."""
        unpicklable = ("publish", "standings", "searcher", "display")
        return {**self.__dict__, **dict.fromkeys(unpicklable)}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Take the time of a trial."""
        number = self._of(trial).number
        self.pace.started(number)
        self.searcher.started(number)

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Any],
        trial: Any,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Make an epoch known, unless it is repeated by a worker that took its trial up again."""
        standing = self._of(trial)
        if INFEASIBLE in result:
            self._end(standing, "infeasible", result[INFEASIBLE])
        elif BROKEN in result:
            self._end(standing, "failed", result[BROKEN])
        elif TOO_LARGE in result:
            self.too_large[standing.number] = result[TOO_LARGE]
        elif result[EPOCH] > standing.epoch:
            self.publish(as_event(trial, result))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Make known how a trial ended."""
        standing = self._of(trial)
        self._end(standing, *well_ended(standing, self.max_epochs))
        trial.run_metadata.metric_n_steps.clear()  # 35 kB of the last values that it averaged

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Have a trial tried again whose worker died, a few times, then make known that it broke.

        A node that its cloud takes back is nothing the trial could be blamed for, and counts not.
        """
        standing, reason = self._of(trial), _reason(trial)
        if standing.status != "running":
            return
        if too_large := self.too_large.pop(standing.number, ""):
            self.searcher.with_whole_gpu(standing.proposed)
            self._say(f"{standing.name} is tried again with a whole GPU: {too_large}")
            return
        tried = self.retries[standing.number] + (not _was_preempted(trial))
        if tried > self.most_retries:
            self._end(standing, "failed", f"{reason}, {tried} times")
            return
        self.retries[standing.number] = tried
        self.searcher.again(standing.proposed)
        self._say(
            f"{standing.name} goes on from its checkpoint, retry {tried} of {self.most_retries}: "
            f"{reason}"
        )

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Show the status."""
        counts = self.standings.counts
        done = counts.total() - counts["running"]
        best = self.standings.best
        words = [
            f"{done}/{self.trials}",
            f"{counts['running']} running",
            *([f"{counts['stopped_early']} stopped early"] if counts["stopped_early"] else []),
            *([f"best {self.symbol} {100 * best.score:.2f} (trial {best.number})"] if best else []),
            time_words(time.monotonic() - self.started, self._remaining(self.trials - done)),
        ]
        self.display.show(done, self.trials, " · ".join(words))

    def _remaining(self, left: int) -> float | None:
        remaining = self.pace.remaining(left)
        if self.seconds is None:
            return remaining
        budget = max(0.0, self.seconds - (time.monotonic() - self.started))
        return budget if remaining is None else min(budget, remaining)

    def _of(self, trial: Any) -> Standing:
        return self.standings.trials[trial.config[NUMBER]]

    def _end(self, standing: Standing, status: str, reason: str) -> None:
        if standing.status != "running":
            return
        self.publish(Ended(standing.number, status, reason))
        self.pace.ended(standing.number)
        done = len(self.standings.trials) - len(self.standings.running)
        outcome = (
            f"{self.symbol} {100 * standing.score:5.2f}"
            if status in ("finished", "stopped_early") and standing.best_epoch
            else reason
        )
        width = len(str(self.trials))  # below each other, lines are read as columns
        epochs = f"{standing.epoch:{len(str(self.max_epochs))}} epoch{'s' * (standing.epoch != 1)}"
        self._say(
            f"{done:{width}}/{self.trials} trial {standing.number:{width}}"
            f"{' (paper)' * (standing.proposed.origin == PAPER)} {status.replace('_', ' ')} "
            f"after {epochs}: {outcome}{self._best_words()}"
        )

    def _best_words(self) -> str:
        best = self.standings.best
        return f", best {100 * best.score:.2f} (trial {best.number})" if best else ""

    def _say(self, line: str) -> None:
        seconds = int(time.monotonic() - self.started)
        self.display.say(f"[{seconds // 60:3d}:{seconds % 60:02d}] {line}")


def well_ended(standing: Standing, max_epochs: int) -> tuple[str, str]:
    """Return status and reason of a trial that ran all its epochs or was stopped before."""
    if standing.epoch >= max_epochs:
        return "finished", ""
    stale = standing.epoch - standing.best_epoch
    return (
        "stopped_early",
        f"stopped after epoch {standing.epoch}, {stale} epochs after its best",
    )


def _was_preempted(trial: Any) -> bool:
    """Say whether a trial's worker went with its node because the cloud wanted that back."""
    try:
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    except (OSError, TypeError, ValueError, EOFError):
        return False
    return isinstance(error, RayActorError) and bool(error.preempted)


def _reason(trial: Any) -> str:
    """Return why a trial broke in one line: the last of a traceback, else the first.

    Ray Tune has just written the error below a heading; it copies the file to the study's storage
    only later.
    """
    try:
        _, *lines = Path(trial.error_file).read_text(errors="replace").splitlines()
    except (OSError, TypeError, ValueError):
        return "unknown error"
    told = [line.strip() for line in lines if line.strip()] or ["unknown error"]
    return told[-1 if any("Traceback" in line for line in told) else 0]
