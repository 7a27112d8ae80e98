"""What Ray Tune reports about a running search, published as events and displayed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.tune import Callback

from tuning.compute.display import Pace, StatusLine, time_words
from tuning.engine.results import BROKEN, EPOCH, INFEASIBLE, NUMBER, TOO_LARGE, as_event
from tuning.engine.searcher import StudySearcher
from tuning.engine.study import Study
from tuning.events.event import Ended, Event
from tuning.events.state import State, TrialState
from tuning.spec.records import PAPER, SELECTABLE

MOST_RETRIES = 2
"""How often a trial is retried after its worker died."""


class SearchProgress(Callback):
    """Turns Ray Tune's callbacks into events, and shows them: a line per trial, and the status.

    Args:
        publish: Publishes an event.
        state: The state of the trials.
        study: What is searched.
        searcher: Hands out trials, and hands out again those to be retried.
        display: Where progress is shown.
        workers: Trials at once.
        seconds: How long the search may take; None for no limit.
    """

    def __init__(
        self,
        publish: Callable[[Event], None],
        state: State,
        study: Study,
        searcher: StudySearcher,
        display: StatusLine,
        workers: int,
        seconds: float | None = None,
    ) -> None:
        self._publish = publish
        self._state = state
        self._study = study
        self._searcher = searcher
        self._display = display
        self._seconds = seconds
        self._pace = Pace(workers)
        self._retries: Counter[int] = Counter()
        self._too_large: dict[int, str] = {}
        self._started = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot be pickled, as Ray Tune pickles its callbacks."""
        unpicklable = ("_publish", "_state", "_searcher", "_display")
        return {**self.__dict__, **dict.fromkeys(unpicklable)}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = self._state_of(trial).number
        self._pace.started(number)
        self._searcher.started(number)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Publish an epoch, unless it is a repeat from a worker that resumed its trial."""
        current = self._state_of(trial)
        if current.status != "running":
            return
        if INFEASIBLE in result:
            self._end(current, "infeasible", result[INFEASIBLE])
        elif BROKEN in result:
            self._end(current, "failed", result[BROKEN])
        elif TOO_LARGE in result:
            self._too_large[current.number] = result[TOO_LARGE]
        elif result[EPOCH] > current.epoch:
            self._publish(as_event(trial, result))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        current = self._state_of(trial)
        self._end(current, *end_status(current, self._study.max_epochs))
        trial.run_metadata.metric_n_steps.clear()  # 35 kB of recent values, kept for averages

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Retry a trial whose worker died, a few times; then publish that it failed.

        A node that its cloud reclaims is not the trial's fault, and does not count as a retry.
        """
        current, reason = self._state_of(trial), _reason(trial)
        if current.status != "running":
            return
        if too_large := self._too_large.pop(current.number, ""):
            self._searcher.retry_with_whole_gpu(current.proposed)
            self._say(f"{_name(current)} is retried with a whole GPU: {too_large}")
            return
        tried = self._retries[current.number] + (not _was_preempted(trial))
        if tried > MOST_RETRIES:
            self._end(current, "failed", f"{reason}, {tried} times")
            return
        self._retries[current.number] = tried
        self._searcher.retry(current.proposed)
        retry = f"retry {tried} of {MOST_RETRIES}"
        self._say(f"{_name(current)} resumes from its checkpoint, {retry}: {reason}")

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        counts, trials_in_all = self._state.counts, self._study.trials
        done = counts.total() - counts["running"]
        elapsed = time.monotonic() - self._started
        words = (
            f"{done}/{trials_in_all}",
            f"{counts['running']} running",
            f"{counts['stopped_early']} stopped early" if counts["stopped_early"] else "",
            self._best_words(f"best {self._study.goal.symbol}"),
            time_words(elapsed, self._remaining(trials_in_all - done, elapsed)),
        )
        self._display.show(done, trials_in_all, " · ".join(part for part in words if part))

    def _remaining(self, left: int, elapsed: float) -> float | None:
        remaining = self._pace.remaining(left)
        if self._seconds is None:
            return remaining
        budget = max(0.0, self._seconds - elapsed)
        return budget if remaining is None else min(budget, remaining)

    def _state_of(self, trial: Any) -> TrialState:
        return self._state.trials[trial.config[NUMBER]]

    def _end(self, current: TrialState, status: str, reason: str) -> None:
        if current.status != "running":
            return
        self._publish(Ended(current.number, status, reason))
        self._pace.ended(current.number)
        study, state = self._study, self._state
        done = len(state.trials) - len(state.running)
        scored = status in SELECTABLE and current.best_epoch
        outcome = f"{study.goal.symbol} {100 * current.score:5.2f}" if scored else reason
        width = len(str(study.trials))  # so that lines below each other align as columns
        epochs = f"{current.epoch:{len(str(study.max_epochs))}} epoch{'s' * (current.epoch != 1)}"
        best = self._best_words(", best")
        self._say(
            f"{done:{width}}/{study.trials} {_name(current, width)} {status.replace('_', ' ')} "
            f"after {epochs}: {outcome}{best}"
        )

    def _best_words(self, before: str) -> str:
        best = self._state.best
        return f"{before} {100 * best.score:.2f} (trial {best.number})" if best else ""

    def _say(self, line: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        self._display.say(f"[{minutes:3d}:{seconds:02d}] {line}")


def _name(trial: TrialState, width: int = 0) -> str:
    return f"trial {trial.number:{width}}{' (paper)' * (trial.proposed.origin == PAPER)}"


def end_status(trial: TrialState, max_epochs: int) -> tuple[str, str]:
    """Return the status and reason of a trial that ran all its epochs or was stopped early."""
    if trial.epoch >= max_epochs:
        return "finished", ""
    stale = trial.epoch - trial.best_epoch
    return "stopped_early", f"stopped after epoch {trial.epoch}, {stale} epochs after its best"


def _was_preempted(trial: Any) -> bool:
    """Say whether a trial's worker died because the cloud reclaimed its node."""
    try:
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    except (OSError, TypeError, ValueError, EOFError):
        return False
    return isinstance(error, RayActorError) and bool(error.preempted)


def _reason(trial: Any) -> str:
    """Return in one line why a trial failed: the last line of a traceback, else the first line.

    Ray Tune has just written the error below a heading; only later does it copy the file to the
    study's storage.
    """
    try:
        _, *lines = Path(trial.error_file).read_text(errors="replace").splitlines()
    except (OSError, TypeError, ValueError):
        return "unknown error"
    error_lines = [line.strip() for line in lines if line.strip()] or ["unknown error"]
    return error_lines[-1 if any("Traceback" in line for line in error_lines) else 0]
