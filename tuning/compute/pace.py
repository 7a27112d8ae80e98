"""How long trials take, and so how long the rest of a search will."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


class Pace:
    """Learns how long a trial takes from those that have ended in this process.

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
        """Learn that a trial has started."""
        self._since[number] = self._now()

    def ended(self, number: int) -> None:
        """Learn that a trial has ended."""
        if number in self._since:
            self._took.append(self._now() - self._since.pop(number))

    def remaining(self, left: int) -> float | None:
        """Return the seconds that trials will still take; None before one has ended.

        A trial counts as long as the mean of those that ended, of which a running one has done a
        part.

        Args:
            left: Trials that have not ended, running ones among them.
        """
        if not self._took or left <= 0:
            return None if left > 0 else 0.0
        mean = statistics.fmean(self._took)
        rests = [max(0.0, mean - (self._now() - since)) for since in self._since.values()]
        waiting = max(0, left - len(rests))
        return max([(sum(rests) + waiting * mean) / self._workers, *rests])
