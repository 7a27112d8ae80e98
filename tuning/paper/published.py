"""The published figures, read from data files that name the source of each."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "published"
AVERAGE = "average"
"""Stands for a data set where a table has the average over its data sets."""


@dataclass(frozen=True)
class PublishedRow:
    """A method's published figures.

    Attributes:
        method: Its name as printed.
        published_in: Key of the source that published it.
        results: Data set → figure (ts, tr, H, T1, mAP) → percent; None where none is printed.
        read_from: Keys of the copies it was read from; empty for the source itself.
    """

    method: str
    published_in: str
    results: Mapping[str, Mapping[str, float | None]]
    read_from: Sequence[str] = ()

    def value(self, dataset: str, figure: str) -> float | None:
        """Return a figure in percent, or None where none is printed."""
        return self.results.get(dataset, {}).get(figure)

    def has_any(self, figures: Collection[str]) -> bool:
        """Tell whether one of some figures is printed for a data set."""
        return any(self.value(d, figure) is not None for d in self.results for figure in figures)


class Misprint(NamedTuple):
    """A published figure that contradicts others: where it is printed, and what is wrong with it.

    ``where`` is a table or figure of the paper, such as ``table2``, or the key of another source.
    """

    where: str
    method: str
    dataset: str
    figure: str
    text: str


class Bars(NamedTuple):
    """The numbers printed in a bar chart: one figure, arm → data set → percent."""

    figure: str
    arms: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Published:
    """What is published; nothing is corrected.

    Attributes:
        sources: Key → the source in words.
        tables: ``table2``, … → the paper's rows in its order, its own method last.
        other_rows: Other publications' rows of the methods the paper compares with, and of more.
        misprints: What contradicts itself.
        bars: ``figure4`` and ``figure5`` → the numbers that the paper prints in them.
        similar_pairs: ``figure9`` and ``figure10`` → the pairs of classes they name.
        queries: Data set → the classes figure 11 asks for.
    """

    sources: Mapping[str, str]
    tables: Mapping[str, Sequence[PublishedRow]]
    other_rows: Sequence[PublishedRow]
    misprints: Sequence[Misprint]
    bars: Mapping[str, Bars]
    similar_pairs: Mapping[str, Sequence[Sequence[str]]]
    queries: Mapping[str, Sequence[str]]

    def rows(self, table: str, figures: Collection[str]) -> list[PublishedRow]:
        """Return a table's rows: the paper's baselines, other publications', the paper's own."""
        *baselines, own = self.tables[table]
        printed = {row.method.casefold() for row in self.tables[table]}
        others = (row for row in self.other_rows if row.method.casefold() not in printed)
        return [*baselines, *(row for row in others if row.has_any(figures)), own]

    def original(self, row: PublishedRow) -> PublishedRow | None:
        """Return the row that the paper copied, if it is here."""
        same = (o for o in self.other_rows if o.method.casefold() == row.method.casefold())
        return next((other for other in same if other is not row), None)


@cache
def published() -> Published:
    """Return the figures of the tables, and what the figures print."""
    results, figures = (
        json.loads((FOLDER / name).read_text(encoding="utf-8"))
        for name in ("results.json", "figures.json")
    )
    return Published(
        sources=results["sources"],
        tables={
            name: [PublishedRow(**row) for row in rows] for name, rows in results["tables"].items()
        },
        other_rows=[PublishedRow(**row) for row in results["other_rows"]],
        misprints=[Misprint(**one) for one in results["misprints"]],
        bars={name: Bars(**one) for name, one in figures["bars"].items()},
        similar_pairs=figures["similar_pairs"],
        queries=figures["queries"],
    )
