"""Where a person follows a computation, and how times are written there."""

from __future__ import annotations

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
