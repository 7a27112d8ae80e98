"""Show progress on a terminal: lines that stay, and a status line below them."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from typing import Any, Self

from tqdm import tqdm

HEARTBEAT_SECONDS = 10.0
"""Where there is no status line, the output is never quiet for longer than this."""

COLUMNS = 100  # lines of ours are no longer, except for addresses and paths


def wrapped(text: str, indent: int = 2) -> list[str]:
    """Return a text as lines that fit a terminal, those after the first indented."""
    return textwrap.wrap(
        text,
        COLUMNS,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


class StatusLine:
    """A ``Display`` on the standard output: a bar, or a plain line now and then in a file."""

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
                # These promise no control characters.
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
