"""What happens in a running search, made known: to the log first, then to all who listen."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.tune import Callback

from tuning.compute.display import Display, time_words
from tuning.compute.pace import Pace
from tuning.engine.results import BROKEN, EPOCH, INFEASIBLE, NUMBER, TOO_LARGE, as_event
from tuning.engine.searcher import StudySearcher
from tuning.events.event import Ended, Event
from tuning.events.log import EventLog
from tuning.events.state import State, TrialState
from tuning.spec.records import PAPER

Listener = Callable[[Event], None]


class Publisher:
    """Passes on each event of a study, after it is in the log.

    Args:
        log: Where events are kept.
        listeners: Who is told, in this order.
    """

    def __init__(self, log: EventLog, listeners: Sequence[Listener]) -> None:
        self._log = log
        self._listeners = tuple(listeners)

    def replay(self) -> None:
        """Tell the listeners of the past."""
        for event, _ in self._log.read():
            self._tell(event)

    def publish(self, event: Event) -> None:
        """Append an event to the log and tell the listeners."""
        self._log.append(event)
        self._tell(event)

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)


@dataclass
class SearchProgress(Callback):
    """Turns what Ray Tune says into events, and shows them: a line a trial, and the status.

    Attributes:
        publish: Makes an event known.
        state: How the trials stand.
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
    state: State
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
        unpicklable = ("publish", "state", "searcher", "display")
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
        known = self._of(trial)
        if known.status != "running":
            return
        if INFEASIBLE in result:
            self._end(known, "infeasible", result[INFEASIBLE])
        elif BROKEN in result:
            self._end(known, "failed", result[BROKEN])
        elif TOO_LARGE in result:
            self.too_large[known.number] = result[TOO_LARGE]
        elif result[EPOCH] > known.epoch:
            self.publish(as_event(trial, result))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Make known how a trial ended."""
        known = self._of(trial)
        self._end(known, *well_ended(known, self.max_epochs))
        trial.run_metadata.metric_n_steps.clear()  # 35 kB of the last values that it averaged

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Have a trial tried again whose worker died, a few times, then make known that it broke.

        A node that its cloud takes back is nothing the trial could be blamed for, and counts not.
        """
        known, reason = self._of(trial), _reason(trial)
        if known.status != "running":
            return
        if too_large := self.too_large.pop(known.number, ""):
            self.searcher.with_whole_gpu(known.proposed)
            self._say(f"{_name(known)} is tried again with a whole GPU: {too_large}")
            return
        tried = self.retries[known.number] + (not _was_preempted(trial))
        if tried > self.most_retries:
            self._end(known, "failed", f"{reason}, {tried} times")
            return
        self.retries[known.number] = tried
        self.searcher.again(known.proposed)
        self._say(
            f"{_name(known)} goes on from its checkpoint, retry {tried} of {self.most_retries}: "
            f"{reason}"
        )

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Show the status."""
        counts = self.state.counts
        done = counts.total() - counts["running"]
        best = self.state.best
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

    def _of(self, trial: Any) -> TrialState:
        return self.state.trials[trial.config[NUMBER]]

    def _end(self, known: TrialState, status: str, reason: str) -> None:
        if known.status != "running":
            return
        self.publish(Ended(known.number, status, reason))
        self.pace.ended(known.number)
        done = len(self.state.trials) - len(self.state.running)
        outcome = (
            f"{self.symbol} {100 * known.score:5.2f}"
            if status in ("finished", "stopped_early") and known.best_epoch
            else reason
        )
        width = len(str(self.trials))  # below each other, lines are read as columns
        epochs = f"{known.epoch:{len(str(self.max_epochs))}} epoch{'s' * (known.epoch != 1)}"
        self._say(
            f"{done:{width}}/{self.trials} trial {known.number:{width}}"
            f"{' (paper)' * (known.proposed.origin == PAPER)} {status.replace('_', ' ')} "
            f"after {epochs}: {outcome}{self._best_words()}"
        )

    def _best_words(self) -> str:
        best = self.state.best
        return f", best {100 * best.score:.2f} (trial {best.number})" if best else ""

    def _say(self, line: str) -> None:
        seconds = int(time.monotonic() - self.started)
        self.display.say(f"[{seconds // 60:3d}:{seconds % 60:02d}] {line}")


def _name(trial: TrialState) -> str:
    """Return what the terminal calls a trial."""
    return f"trial {trial.number}" + (" (paper)" if trial.proposed.origin == PAPER else "")


def well_ended(trial: TrialState, max_epochs: int) -> tuple[str, str]:
    """Return status and reason of a trial that ran all its epochs or was stopped before."""
    if trial.epoch >= max_epochs:
        return "finished", ""
    stale = trial.epoch - trial.best_epoch
    return (
        "stopped_early",
        f"stopped after epoch {trial.epoch}, {stale} epochs after its best",
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
