"""The progress display: its status line, its times, and an estimate of what is left."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Self

from tqdm import tqdm

HEARTBEAT_SECONDS = 10.0
"""Without a status line, the output is never quiet for longer than this."""


class StatusLine:
    """Shows progress on standard output: a bar on a terminal, else a plain line now and then."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._last_line = time.monotonic()

    def show(self, done: int, total: int, words: str) -> None:
        """Replace the status, at most twice a second.

        Args:
            done: How many are done.
            total: Of how many.
            words: What to say beside the bar.
        """
        if self._bar is None:  # tqdm shows its bar as soon as it is made
            self._bar = tqdm(
                initial=done,
                total=total,
                desc=words,
                bar_format="{bar:20} {desc}",
                file=sys.stdout,
                # These terminals do not support control characters.
                disable=os.environ.get("TERM", "") in ("", "dumb") or None,
                leave=False,
                dynamic_ncols=True,
                mininterval=0.5,
                miniters=0,
            )
        if not self._bar.disable:
            self._bar.total = total
            self._bar.set_description_str(words, refresh=False)
            self._bar.update(done - self._bar.n)
        elif time.monotonic() - self._last_line >= HEARTBEAT_SECONDS:
            self.say(words)

    def say(self, line: str) -> None:
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def clock(seconds: float) -> str:
    """Return a time as ``4:05`` or ``1:04:05``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def time_words(elapsed: float, remaining: float | None) -> str:
    """Return how long something has taken, and how long it still will where that is known."""
    if remaining is None:
        return clock(elapsed)
    # A trial that outlasts the expected time leaves no estimate.
    left = f"about {clock(remaining)} left" if remaining >= 1 else "nearly done"
    return f"{clock(elapsed)}, {left}"


class Pace:
    """Estimates the remaining time from the trials that have ended in this process."""

    def __init__(self, workers: int, now: Callable[[], float] = time.monotonic) -> None:
        self._workers = workers
        self._now = now
        self._started_at: dict[int, float] = {}
        self._durations: list[float] = []

    def started(self, number: int) -> None:
        self._started_at[number] = self._now()

    def ended(self, number: int) -> None:
        if number in self._started_at:
            self._durations.append(self._now() - self._started_at.pop(number))

    def remaining(self, left: int) -> float | None:
        """Return the seconds that trials will take, including running ones; None until one ends.

        Each is expected to take the mean of those that ended; a running one has done part of that.
        """
        if not self._durations or left <= 0:
            return None if left > 0 else 0.0
        mean = statistics.fmean(self._durations)
        remaining = [max(0.0, mean - (self._now() - since)) for since in self._started_at.values()]
        waiting = max(0, left - len(remaining))
        return max([(sum(remaining) + waiting * mean) / self._workers, *remaining])
