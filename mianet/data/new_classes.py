"""New classes as people write them down: names and attribute vectors, as JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from mianet.errors import InputError

_SHAPE = 'JSON such as {"zebra": [0.1, 0.2]}, or CSV lines such as zebra,0.1,0.2'


@dataclass(frozen=True)
class NewClasses:
    """Classes to add to a classifier.

    Attributes:
        names: One a class.
        attributes: One row a class.
    """

    names: tuple[str, ...]
    attributes: Float64[np.ndarray, "classes attributes"]


def read_classes(path: Path) -> NewClasses:
    """Read new classes from a file that ends in ``.json`` or ``.csv``.

    Raises:
        InputError: The file cannot be read, or does not hold names with as many numbers each.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise InputError(f"a file of classes must end in {' or '.join(_PARSERS)}, but got {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"a file of classes must be readable text, but {path}: {error}") from error
    return parse(text, str(path))


def parse_json(text: str, origin: str) -> NewClasses:
    """Read ``{"name": [numbers], …}``.

    Args:
        text: The JSON.
        origin: Where it is from, for the message.

    Raises:
        InputError: It is not of that form.
    """
    try:
        pairs = json.loads(text, object_pairs_hook=list)
        return _classes([(name, vector) for name, vector in pairs], origin)
    except (ValueError, TypeError, RecursionError) as error:
        raise _wrong(origin, str(error)) from error


def parse_csv(text: str, origin: str) -> NewClasses:
    """Read lines of a name and its numbers; a first line without numbers is a heading.

    Args:
        text: The CSV.
        origin: Where it is from, for the message.

    Raises:
        InputError: It is not of that form.
    """
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if rows and not any(_is_number(cell) for cell in rows[0][1:]):
        rows = rows[1:]
    try:
        return _classes(
            [(name.strip(), [float(cell) for cell in cells]) for name, *cells in rows], origin
        )
    except ValueError as error:
        raise _wrong(origin, str(error)) from error


def _classes(pairs: list[tuple[str, Any]], origin: str) -> NewClasses:
    if not pairs:
        raise _wrong(origin, "there is no class")
    vectors = [np.asarray(vector) for _, vector in pairs]
    for (name, _), vector in zip(pairs, vectors, strict=True):
        if vector.ndim != 1 or vector.dtype.kind not in "iuf" or vector.shape != vectors[0].shape:
            raise _wrong(origin, f"{name!r} must have a list of numbers, as {pairs[0][0]!r} has")
    return NewClasses(tuple(name for name, _ in pairs), np.stack(vectors).astype(np.float64))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _wrong(origin: str, reason: str) -> InputError:
    return InputError(
        f"new classes must be names with as many numbers each ({_SHAPE}), but {origin} is not so: "
        f"{' '.join(reason.split())[:200]}"
    )


_PARSERS: Mapping[str, Callable[[str, str], NewClasses]] = {".json": parse_json, ".csv": parse_csv}
