"""Two CSV files that a final training saves from its test, besides its figures."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

from mianet.calibration import SeenUnseenCurve
from mianet.errors import InputError

CONFUSION_FILE = "confusion.csv"
"""A line for each class and each class predicted for its images, over all seeds."""
CURVE_FILE = "seen_unseen.csv"
"""Each seed's curve of calibrated stacking: tr and ts from one constant up to the next."""

_CONFUSION = {"class": str, "unseen": int, "taken_for": str, "taken_for_unseen": int, "images": int}
_CURVE = {"seed": int, "constant": float, "seen_accuracy": float, "unseen_accuracy": float}


@dataclass(frozen=True)
class Confusion:
    """Which classes are predicted as which."""

    names: tuple[str, ...]  # the classes, seen ones first
    unseen: tuple[bool, ...]  # for each class, whether it is unseen
    counts: np.ndarray  # images of a class (row) taken for each (column), over all seeds

    @property
    def shares(self) -> np.ndarray:
        """Return the counts as shares of each class's images; a class without any has zeros."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return np.asarray(self.counts / np.maximum(totals, 1))


def confusion_text(counts: np.ndarray, names: Sequence[str], unseen: Sequence[bool]) -> str:
    """Return the text of the file of a confusion, seen classes first; zeros are left out.

    Args:
        counts: Images of each class (row) taken for each (column).
        names: The classes.
        unseen: For each class, whether it is unseen.
    """
    order = np.argsort(unseen, kind="stable")
    # Keep the diagonal, so that every class is listed in its place.
    kept = counts[np.ix_(order, order)].astype(bool) | np.eye(len(order), dtype=bool)
    pairs = [(order[c], order[d]) for c, d in np.argwhere(kept)]
    rows = [(names[c], int(unseen[c]), names[d], int(unseen[d]), counts[c, d]) for c, d in pairs]
    return csv_text(rows, list(_CONFUSION))


def read_confusion(text: str) -> Confusion:
    """Return what ``confusion_text`` wrote; raise an InputError for anything else."""
    table = _read(CONFUSION_FILE, text, _CONFUSION)
    unseen = dict(zip(table["class"], table["unseen"] == 1, strict=True))
    names = list(unseen)
    if not set(table["taken_for"]) <= unseen.keys():
        raise _damaged(CONFUSION_FILE)
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    rows, columns = (pd.Index(names).get_indexer(table[x]) for x in ("class", "taken_for"))
    counts[rows, columns] = table["images"]
    return Confusion(tuple(names), tuple(unseen.values()), counts)


def curves_text(curves: Mapping[int, SeenUnseenCurve]) -> str:
    """Return the text of the file of the seeds' curves."""
    rows = [
        (seed, constant, tr, ts)
        for seed, curve in curves.items()
        for constant, tr, ts in zip(
            [-math.inf, *curve.breakpoints],
            curve.seen_accuracy,
            curve.unseen_accuracy,
            strict=True,
        )
    ]
    return csv_text(rows, list(_CURVE), float_format="%.9g")


def read_curves(text: str) -> dict[int, SeenUnseenCurve]:
    """Return seed → curve as ``curves_text`` wrote it; raise an InputError for anything else."""
    table = _read(CURVE_FILE, text, _CURVE)
    return {
        int(seed): SeenUnseenCurve(
            points["constant"].to_numpy()[1:],
            points["seen_accuracy"].to_numpy(),
            points["unseen_accuracy"].to_numpy(),
        )
        for seed, points in table.groupby("seed", sort=False)
    }


def csv_text(
    rows: Sequence[Sequence[object]], columns: Sequence[str], float_format: str | None = None
) -> str:
    """Return rows as CSV, with a header of column names.

    Args:
        rows: The cells.
        columns: One name per column.
        float_format: As pandas takes it.
    """
    table = pd.DataFrame(rows, columns=list(columns))
    options = {"float_format": float_format, "na_rep": "nan", "lineterminator": "\r\n"}
    return str(table.to_csv(index=False, **options))


def _read(name: str, text: str, columns: Mapping[str, type]) -> pd.DataFrame:
    """Return a file's table, checked to have these columns, and as many fields on each line."""
    try:
        # Only Python's csv reader keeps every character that a class's name may have.
        table = pd.read_csv(
            io.StringIO(text, newline=""), dtype=str, na_filter=False, engine="python"
        )
        is_whole = isinstance(table.index, pd.RangeIndex)  # else a line has too many fields
        if list(table.columns) != list(columns) or not is_whole:
            raise _damaged(name)
        return table.astype(columns)
    except ValueError as error:  # such as pandas's ParserError
        raise _damaged(name) from error


def _damaged(name: str) -> InputError:
    return InputError(
        f"{name} must be as a final training records it, but is damaged; run the final training "
        "again"
    )
