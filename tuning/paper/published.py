"""The published figures, read from data files that name the source of each."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]

FOLDER = Path(__file__).parent / "published"
AVERAGE = "average"  # in place of a data set: a table's average over its data sets
PAPER_METHOD = "MIANet"  # the paper's own method


@cache
def published() -> dict[str, Any]:
    """Return the contents of the two files, uncorrected.

    ``sources`` has the publications in words, ``tables`` the rows of the paper's tables in its
    order, ``other_rows`` those of other publications (data set → figure → percent, null where none
    is printed), ``misprints`` what contradicts itself. ``bars`` has the numbers of figures 4 and 5
    by arm and data set, ``similar_pairs`` the classes that figures 9 and 10 name, and ``queries``
    those that figure 11 queries.
    """
    files = [FOLDER / "results.json", FOLDER / "figures.json"]
    contents = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return {**contents[0], **contents[1]}


@cache
def printed(table: str) -> pd.DataFrame:
    """Return a row for each cell of a table: baselines, other publications', the paper's own.

    Columns: method, dataset, figure, mean (percent; NaN where nothing is printed) and published_in
    (a key of ``sources``); source and copied_from where the publication that the paper copied from
    has another figure; misprint, what is wrong with the cell. These are empty elsewhere.
    """
    *baselines, own = rows = published()["tables"][table]
    copied = {row["method"].casefold(): row for row in published()["other_rows"]}
    of_paper = {row["method"].casefold() for row in rows}
    others = [row for method, row in copied.items() if method not in of_paper]
    keys = ("where", "method", "dataset", "figure")
    wrong = {tuple(one[k] for k in keys): one["text"] for one in published()["misprints"]}
    cells = []
    for row in (*baselines, *others, own):
        where = row["published_in"] if row in others else table
        original = {} if row in others else copied.get(row["method"].casefold(), {})
        for dataset, figures in own["results"].items():
            for figure in figures:
                value = row["results"].get(dataset, {}).get(figure)
                source = original.get("results", {}).get(dataset, {}).get(figure)
                is_other = None not in (source, value) and source != value
                origin = (source, original["published_in"]) if is_other else (None, "")
                misprint = wrong.get((where, row["method"], dataset, figure), "")
                cell = (row["method"], dataset, figure, value, row["published_in"])
                cells.append((*cell, *origin, misprint))
    columns = ["method", "dataset", "figure", "mean", "published_in"]
    columns += ["source", "copied_from", "misprint"]
    frame = pd.DataFrame(cells, columns=columns)
    has_any = frame.groupby("method")["mean"].transform("count") > 0
    return frame[has_any | frame["published_in"].eq(own["published_in"])]
