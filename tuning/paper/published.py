"""The published figures, read from one data file that names the source of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

RESULTS_FILE = Path(__file__).parent / "published" / "results.json"


@dataclass(frozen=True)
class PublishedRow:
    """A method's published figures.

    Attributes:
        method: Its name as it is printed.
        published_in: Key of the source that published it.
        read_from: Keys of the copies that it was read from and checked in.
        results: Data set → ts, tr, H and T1 in percent; None where it is not known.
    """

    method: str
    published_in: str
    read_from: tuple[str, ...]
    results: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class Published:
    """All published figures.

    Attributes:
        sources: Key → the source in words.
        rows: The baselines, and last MIANet's own.
        misprints: What the paper prints wrongly: data sets, and the sentence that says it.
        missing: What is not in the file, and why.
    """

    sources: Mapping[str, str]
    rows: tuple[PublishedRow, ...]
    misprints: tuple[Mapping[str, Any], ...]
    missing: tuple[Mapping[str, str], ...]

    def misprints_of(self, dataset: str) -> list[str]:
        """Return the sentences that concern a data set."""
        return [one["text"] for one in self.misprints if dataset in one["datasets"]]


@cache
def published() -> Published:
    """Return the published figures."""
    content = json.loads(RESULTS_FILE.read_text(encoding="utf-8"))
    return Published(
        sources=content["sources"],
        rows=tuple(
            PublishedRow(
                row["method"], row["published_in"], tuple(row["read_from"]), row["results"]
            )
            for row in content["rows"]
        ),
        misprints=tuple(content["misprints"]),
        missing=tuple(content["missing"]),
    )
