"""What a variable of a Matlab file can be, whichever format the file has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

MAX_CELL_DEPTH = 8
"""Cell arrays nested deeper than this hold no class name."""


@dataclass(frozen=True)
class Other:
    """A value of a kind that no data set has, such as a function handle; it is left unread."""

    kind: str


Value: TypeAlias = np.ndarray | str | tuple[Any, ...] | Other
"""A real array in Matlab's orientation, a text, or none of them; a tuple holds the values of a cell
array column by column, or the rows of a char matrix."""


class TooLargeError(ValueError):
    """The wanted variables unpack to more than any data set has."""


def describe(value: Value) -> str:
    """Return in words what a value is."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    if isinstance(value, Other):
        return value.kind
    return "text" if isinstance(value, str) else "a list"


def char_rows(units: np.ndarray, rows: int) -> Value:
    """Return the text of UTF-16 code units stored column by column; a tuple of many rows."""
    lines = units.astype("<u2").reshape(rows or 1, -1, order="F")
    texts = tuple(line.tobytes().decode("utf-16-le") for line in lines)
    return texts[0] if len(texts) == 1 else texts
