"""Print to a person: lines that stay, and on a terminal a status line below them.

Where the output is a file or a pipe there is no status line and no control character.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from types import TracebackType
from typing import Self

REFRESH_SECONDS = 0.5
"""How often the status line changes at most."""

_BAR_CELLS = 20
_CLEAR = "\r\x1b[K"


class StatusLine:
    """A line at the bottom of a terminal, replaced in place; other lines scroll above it.

    As a context manager it leaves nothing of itself behind.

    Attributes:
        live: Whether there is a terminal that can show it.
    """

    def __init__(self) -> None:
        self.live = sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb")
        self._text = ""
        self._shown = -REFRESH_SECONDS

    @property
    def due(self) -> bool:
        """Tell whether it is time to show something new."""
        return self.live and time.monotonic() - self._shown >= REFRESH_SECONDS

    def show(self, text: str) -> None:
        """Replace the status; nothing where there is no terminal."""
        if self.live:
            self._text = text
            self._shown = time.monotonic()
            self._draw()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if self.live:
            sys.stdout.write(_CLEAR)
        print(line, flush=True)
        if self.live and self._text:
            self._draw()

    def clear(self) -> None:
        """Take the status away."""
        if self.live and self._text:
            self._text = ""
            sys.stdout.write(_CLEAR)
            sys.stdout.flush()

    def __enter__(self) -> Self:
        """Return the line."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the status away."""
        self.clear()

    def _draw(self) -> None:
        width = shutil.get_terminal_size().columns - 1  # a full line would wrap
        text = self._text if len(self._text) <= width else f"{self._text[: width - 1]}…"
        # The cursor goes back to the left: what anybody else prints takes the status's place.
        sys.stdout.write(f"{_CLEAR}{text}\r")
        sys.stdout.flush()


def bar(done: int, of: int) -> str:
    """Return a bar of how much is done, in characters that the output can show."""
    full, empty = ("━", "─") if _can_show("━─") else ("=", "-")
    cells = _BAR_CELLS * min(done, of) // max(of, 1)
    return full * cells + empty * (_BAR_CELLS - cells)


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


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
