"""Estimate how long the rest of a search will take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


class Pace:
    """Estimates the remaining time from the trials that have ended in this process.

    Args:
        workers: Trials at once.
        now: Returns the time in seconds.
    """

    def __init__(self, workers: int, now: Callable[[], float] = time.monotonic) -> None:
        self._workers = workers
        self._now = now
        self._since: dict[int, float] = {}
        self._took: list[float] = []

    def started(self, number: int) -> None:
        """Note that a trial has started."""
        self._since[number] = self._now()

    def ended(self, number: int) -> None:
        """Note that a trial has ended."""
        if number in self._since:
            self._took.append(self._now() - self._since.pop(number))

    def remaining(self, left: int) -> float | None:
        """Return the seconds that the remaining trials will take; None before one has ended.

        Each is expected to take the mean of those that ended; a running one has done part of that.

        Args:
            left: Trials that have not ended, including running ones.
        """
        if not self._took or left <= 0:
            return None if left > 0 else 0.0
        mean = statistics.fmean(self._took)
        rests = [max(0.0, mean - (self._now() - since)) for since in self._since.values()]
        waiting = max(0, left - len(rests))
        return max([(sum(rests) + waiting * mean) / self._workers, *rests])
