"""Lines that fit a terminal."""

from __future__ import annotations

import textwrap

COLUMNS = 100  # our lines are no longer, except for addresses and paths


def wrapped(text: str, indent: int = 2) -> list[str]:
    """Return a text as lines that fit a terminal, all but the first indented."""
    return textwrap.wrap(
        text,
        COLUMNS,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
