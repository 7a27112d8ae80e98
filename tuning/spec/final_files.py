"""What a final training keeps of its test beside figures: two files, written and read back.

``confusion.csv`` has a line for each class and each class that images of it were taken for, with
their number over all seeds. ``seen_unseen.csv`` has each seed's curve of calibrated stacking, every
point of it: tr and ts from a constant on, up to the next.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mianet.calibration import SeenUnseenCurve
from mianet.errors import InputError

CONFUSION_FILE = "confusion.csv"
CURVE_FILE = "seen_unseen.csv"

_CONFUSION = ("class", "unseen", "taken_for", "taken_for_unseen", "images")
_CURVE = ("seed", "constant", "seen_accuracy", "unseen_accuracy")


@dataclass(frozen=True)
class Confusion:
    """Which classes are taken for which.

    Attributes:
        names: Of the classes, seen ones first.
        unseen: Which of them are.
        counts: Images of a class (row) taken for each (column), over all seeds.
    """

    names: tuple[str, ...]
    unseen: tuple[bool, ...]
    counts: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """Return the counts as shares of each class's images; a class without any has zeros."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return np.asarray(self.counts / np.maximum(totals, 1))


def confusion_text(counts: np.ndarray, names: Sequence[str], unseen: Sequence[bool]) -> str:
    """Return the file of a confusion, seen classes first; zeros are left out.

    Args:
        counts: Images of each class (row) taken for each (column).
        names: Of the classes.
        unseen: Which of them are.
    """
    order = sorted(range(len(names)), key=lambda c: (unseen[c], c))
    lines = (
        (names[c], int(unseen[c]), names[d], int(unseen[d]), int(counts[c, d]))
        for c in order
        for d in order
        if counts[c, d] or c == d  # the diagonal names every class in its place
    )
    return _text(_CONFUSION, lines)


def read_confusion(text: str) -> Confusion:
    """Return what ``confusion_text`` wrote.

    Raises:
        InputError: It is no such file.
    """
    rows = list(_rows(CONFUSION_FILE, text, _CONFUSION))
    try:
        classes = {row["class"]: row["unseen"] == "1" for row in rows}
        index = {name: position for position, name in enumerate(classes)}
        counts = np.zeros((len(index), len(index)), dtype=np.int64)
        for row in rows:
            counts[index[row["class"]], index[row["taken_for"]]] = int(row["images"])
    except (KeyError, ValueError) as error:
        raise _damaged(CONFUSION_FILE) from error
    return Confusion(tuple(classes), tuple(classes.values()), counts)


def curves_text(curves: Mapping[int, SeenUnseenCurve]) -> str:
    """Return the file of the curves of seeds."""
    return _text(
        _CURVE,
        (
            (seed, f"{constant:.9g}", f"{tr:.9g}", f"{ts:.9g}")
            for seed, curve in curves.items()
            for constant, tr, ts in zip(
                [-math.inf, *curve.breakpoints],
                curve.seen_accuracy,
                curve.unseen_accuracy,
                strict=True,
            )
        ),
    )


def read_curves(text: str) -> dict[int, SeenUnseenCurve]:
    """Return seed → curve, as ``curves_text`` wrote it.

    Raises:
        InputError: It is no such file.
    """
    points: dict[int, list[tuple[float, float, float]]] = {}
    try:
        for row in _rows(CURVE_FILE, text, _CURVE):
            constant, tr, ts = (float(row[name]) for name in _CURVE[1:])
            points.setdefault(int(row["seed"]), []).append((constant, tr, ts))
    except ValueError as error:
        raise _damaged(CURVE_FILE) from error
    curves = {}
    for seed, of_seed in points.items():
        constants, seen, unseen = np.array(of_seed).T
        curves[seed] = SeenUnseenCurve(constants[1:], seen, unseen)
    return curves


def _text(heading: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(heading)
    writer.writerows(lines)
    return file.getvalue()


def _rows(name: str, text: str, heading: Sequence[str]) -> Iterator[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if tuple(reader.fieldnames or ()) != tuple(heading):
        raise _damaged(name)
    for row in reader:
        if None in row or None in row.values():
            raise _damaged(name)
        yield row


def _damaged(name: str) -> InputError:
    return InputError(f"{name} must be as a final training records it, but it is damaged")
