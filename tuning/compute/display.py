"""Where a person follows a computation, how times are written there, and what is left of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Protocol


class Display(Protocol):
    """Shows progress; ``tuning.cli.terminal.StatusLine`` does so on a terminal."""

    def show(self, done: int, total: int, words: str) -> None:
        """Replace the status.

        Args:
            done: Parts of the work that are done.
            total: Parts in all.
            words: The status.
        """

    def say(self, line: str) -> None:
        """Print a line that stays."""


def clock(seconds: float) -> str:
    """Return a time as ``4:05`` or ``1:04:05``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def time_words(elapsed: float, remaining: float | None) -> str:
    """Return how long something has taken, and how long it still will where that is known."""
    if remaining is None:
        return clock(elapsed)
    # A trial that takes longer than the others did leaves nothing to tell.
    left = f"about {clock(remaining)} left" if remaining >= 1 else "nearly done"
    return f"{clock(elapsed)}, {left}"


class Pace:
    """Estimates the remaining time from the trials that have ended in this process."""

    def __init__(self, workers: int, now: Callable[[], float] = time.monotonic) -> None:
        self._workers = workers
        self._now = now
        self._since: dict[int, float] = {}
        self._took: list[float] = []

    def started(self, number: int) -> None:
        self._since[number] = self._now()

    def ended(self, number: int) -> None:
        if number in self._since:
            self._took.append(self._now() - self._since.pop(number))

    def remaining(self, left: int) -> float | None:
        """Return the seconds that trials will take, including running ones; None before one ended.

        Each is expected to take the mean of those that ended; a running one has done part of that.
        """
        if not self._took or left <= 0:
            return None if left > 0 else 0.0
        mean = statistics.fmean(self._took)
        rests = [max(0.0, mean - (self._now() - since)) for since in self._since.values()]
        waiting = max(0, left - len(rests))
        return max([(sum(rests) + waiting * mean) / self._workers, *rests])
