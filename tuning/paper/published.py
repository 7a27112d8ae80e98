"""The published figures, read from data files that name the source of each."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

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
    read_from: tuple[str, ...] = ()

    def value(self, dataset: str, figure: str) -> float | None:
        """Return a figure in percent, or None where none is printed."""
        return self.results.get(dataset, {}).get(figure)


@dataclass(frozen=True, kw_only=True)
class Misprint:
    """A published figure that contradicts others.

    Attributes:
        where: The table or figure that prints it, such as ``table2``, or the key of another source.
        method: Row.
        dataset: Column, or ``AVERAGE``.
        figure: Such as ``H``.
        text: What is wrong with it, as a sentence.
    """

    where: str
    method: str
    dataset: str
    figure: str
    text: str


@dataclass(frozen=True)
class Published:
    """All published figures of the tables.

    Attributes:
        sources: Key → the source in words.
        tables: ``table2``, … → the paper's rows in its order, its own method last.
        other_rows: Other publications' rows of the methods the paper compares with, and of more.
        misprints: What contradicts itself; it is marked, and not corrected.
    """

    sources: Mapping[str, str]
    tables: Mapping[str, tuple[PublishedRow, ...]]
    other_rows: tuple[PublishedRow, ...]
    misprints: tuple[Misprint, ...]

    def rows(self, table: str, figures: Collection[str]) -> tuple[PublishedRow, ...]:
        """Return a table's rows: the paper's baselines, other publications', the paper's own."""
        *baselines, own = self.tables[table]
        printed = {row.method.casefold() for row in self.tables[table]}
        more = [
            row
            for row in self.other_rows
            if row.method.casefold() not in printed and _has_any(row, figures)
        ]
        return (*baselines, *more, own)

    def original(self, row: PublishedRow) -> PublishedRow | None:
        """Return the row that the paper copied, if it is here."""
        same = (o for o in self.other_rows if o.method.casefold() == row.method.casefold())
        return next((other for other in same if other is not row), None)

    def misprints_in(self, where: str, datasets: Collection[str]) -> list[Misprint]:
        """Return the misprints in a table or figure that concern some data sets."""
        return [one for one in self.misprints if one.where == where and one.dataset in datasets]


def _has_any(row: PublishedRow, figures: Collection[str]) -> bool:
    cells = ((dataset, figure) for dataset in row.results for figure in figures)
    return any(row.value(*cell) is not None for cell in cells)


@cache
def published() -> Published:
    """Return the figures of the tables."""
    content = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
    return Published(
        sources=content["sources"],
        tables={name: tuple(map(_row, rows)) for name, rows in content["tables"].items()},
        other_rows=tuple(map(_row, content["other_rows"])),
        misprints=tuple(Misprint(**one) for one in content["misprints"]),
    )


def _row(content: Mapping[str, Any]) -> PublishedRow:
    return PublishedRow(**{**content, "read_from": tuple(content.get("read_from", ()))})


@dataclass(frozen=True)
class Bars:
    """The numbers printed in a bar chart: one figure, by arm and data set, in percent."""

    figure: str
    arms: Mapping[str, Mapping[str, float]]

    def value(self, arm: str, dataset: str, figure: str) -> float | None:
        """Return the height of a bar in percent, or None where none is printed.

        Args:
            arm: Name of an arm.
            dataset: Canonical name.
            figure: Name of the figure that the bar shows.
        """
        return self.arms.get(arm, {}).get(dataset) if figure == self.figure else None


@dataclass(frozen=True)
class PublishedFigures:
    """What the paper's figures print as numbers and names.

    Attributes:
        bars: ``figure4`` and ``figure5`` → their numbers.
        similar_pairs: ``figure9`` and ``figure10`` → the pairs of classes they name.
        queries: Data set → the classes figure 11 asks for.
    """

    bars: Mapping[str, Bars]
    similar_pairs: Mapping[str, tuple[tuple[str, str], ...]]
    queries: Mapping[str, tuple[str, ...]]


@cache
def published_figures() -> PublishedFigures:
    """Return what the figures print."""
    content = json.loads((FOLDER / "figures.json").read_text(encoding="utf-8"))
    return PublishedFigures(
        bars={name: Bars(**one) for name, one in content["bars"].items()},
        similar_pairs={
            name: tuple((a, b) for a, b in pairs)
            for name, pairs in content["similar_pairs"].items()
        },
        queries={name: tuple(classes) for name, classes in content["queries"].items()},
    )
