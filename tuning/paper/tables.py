"""Tables 2, 3 and 4: this code's figures beside the published ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd  # type: ignore[import-untyped]

from mianet.data.datasets import DATASETS
from tuning.paper.comparison import Estimate, estimate
from tuning.paper.evidence import FIGURES, Evidence
from tuning.paper.findings import Findings
from tuning.paper.published import published
from tuning.paper.rendering import Table

GZSL = ("unseen_accuracy", "seen_accuracy", "harmonic_mean")
ZSL = ("zsl_accuracy",)
RETRIEVAL = ("retrieval_map",)

OURS = "MIANet, this code"
UNKNOWN = "–"


def find_gzsl(evidence: Evidence) -> Findings:
    """Return table 2: ts, tr and H among all classes."""
    return _find(evidence, "table2", GZSL)


def find_zsl(evidence: Evidence) -> Findings:
    """Return table 3: T1 among the unseen classes."""
    return _find(evidence, "table3", ZSL)


def find_retrieval(evidence: Evidence) -> Findings:
    """Return table 4: mAP of retrieval by an unseen class's attributes (eq. 9)."""
    return _find(evidence, "table4", RETRIEVAL)


CAPTIONS = {
    "table2": "Generalized zero-shot accuracy (%): unseen (ts) and seen (tr) classes, harmonic "
    "mean H; mean ± standard deviation over seeds",
    "table3": "Zero-shot accuracy T1 (%) among the unseen classes; mean ± standard deviation over "
    "seeds",
    "table4": "Retrieval by class attributes, mean average precision (%) among the unseen classes' "
    "images; mean ± standard deviation over seeds",
}


def _find(evidence: Evidence, name: str, figures: Sequence[str]) -> Findings:
    estimates = {f: estimate(list(evidence.values("full", f).values())) for f in figures}
    data = _data(evidence, figures, estimates)
    return Findings(
        data=data,
        more={"seeds": evidence.per_seed(["full"], figures)},
        table=table_of(data, CAPTIONS[name]),
        metrics={
            f"{figure}_{what}": value / 100
            for figure, one in estimates.items()
            for what, value in (("mean", one.mean), ("sd", one.sd))
        },
        sentences=(*_comparison(evidence, figures, estimates), *evidence.note(["full"])),
    )


def _data(
    evidence: Evidence, figures: Sequence[str], estimates: dict[str, Estimate]
) -> pd.DataFrame:
    """Return a row for each method, data set and figure; those that are not known are left out."""
    setup = evidence.setup
    rows = [
        {
            "method": row.method,
            "dataset": setup.dataset,
            "figure": FIGURES[figure],
            "mean": value,
            "published_in": row.published_in,
        }
        for row in published().rows
        for figure in figures
        if (value := row.results.get(setup.dataset, {}).get(FIGURES[figure])) is not None
    ]
    rows += [
        {
            "method": f"{OURS} ({setup.role})",
            "dataset": setup.dataset,
            "figure": FIGURES[figure],
            "mean": one.mean,
            "sd": one.sd,
            "seeds": one.count,
            "epochs": setup.epochs,
            "feature_dim": evidence.test.test_unseen_features.shape[1],
        }
        for figure, one in estimates.items()
    ]
    return pd.DataFrame(rows).reindex(columns=_COLUMNS)


_COLUMNS = [
    "method",
    "dataset",
    "figure",
    "mean",
    "sd",
    "seeds",
    "epochs",
    "feature_dim",
    "published_in",
]


def table_of(data: pd.DataFrame, caption: str) -> Table:
    """Return the table of one data set or of several: a row a method, ours last.

    Args:
        data: As ``_data`` makes it, of any number of data sets and configurations.
        caption: What the table shows.
    """
    columns = list(dict.fromkeys(zip(data["dataset"], data["figure"], strict=True)))
    order = list(DATASETS)
    columns.sort(key=lambda column: order.index(column[0]) if column[0] in order else len(order))
    cells = {
        (row.method, row.dataset, row.figure): Estimate(
            row.mean, row.sd, math.nan, math.nan, 0
        ).with_sd
        for row in data.itertuples()
    }
    methods = sorted(dict.fromkeys(data["method"]), key=lambda method: method.startswith(OURS))
    rows = tuple(
        (method, *(cells.get((method, *column), UNKNOWN) for column in columns))
        for method in methods
    )
    gaps = [f"{UNKNOWN}: not known here."] if any(UNKNOWN in row for row in rows) else []
    return Table(
        heading=("method", *(f"{_title(dataset)} {figure}" for dataset, figure in columns)),
        rows=rows,
        caption=caption,
        notes=(*gaps, *_other_features(data), *_sources(data)),
        ours=frozenset(k for k, method in enumerate(methods) if method.startswith(OURS)),
    )


def _title(dataset: str) -> str:
    return DATASETS[dataset].title if dataset in DATASETS else dataset


def _other_features(data: pd.DataFrame) -> list[str]:
    """Say for which data sets the published figures are of other features than ours."""
    widths = data.dropna(subset="feature_dim").drop_duplicates("dataset")
    return [
        f"{_title(row.dataset)}: the features here have {int(row.feature_dim)} columns and not "
        f"{DATASETS[row.dataset].feature_dim}, so the published figures are of other features and "
        "their level cannot be compared."
        for row in widths.itertuples()
        if row.dataset in DATASETS and row.feature_dim != DATASETS[row.dataset].feature_dim
    ]


def _sources(data: pd.DataFrame) -> list[str]:
    """Return what was published where, and what of it is misprinted."""
    sources = published().sources
    cited = [key for key in dict.fromkeys(data["published_in"].dropna()) if key in sources]
    notes = [f"{_methods(data, key)}: {sources[key]}." for key in cited]
    misprints = [text for dataset in data["dataset"] for text in published().misprints_of(dataset)]
    return notes + list(dict.fromkeys(misprints))


def _methods(data: pd.DataFrame, source: str) -> str:
    methods = data.loc[data["published_in"] == source, "method"]
    return ", ".join(dict.fromkeys(methods))


def _comparison(
    evidence: Evidence, figures: Sequence[str], estimates: dict[str, Estimate]
) -> list[str]:
    """Say how far this is from the paper's own figure, where that is known."""
    own = published().rows[-1]
    known = own.results.get(evidence.setup.dataset, {})
    sentences = []
    for figure in figures:
        theirs, ours = known.get(FIGURES[figure]), estimates[figure]
        if theirs is not None:
            sentences.append(
                f"{FIGURES[figure]} is {ours.with_sd} here and {theirs:.1f} in the paper."
            )
    return sentences or ["The paper's own figures for this are not in the data file."]


def write_combined(folder: Path) -> list[Path]:
    """Join the tables of all data sets and configurations that are below a folder.

    Returns:
        The Markdown files written, one a table; text and LaTeX lie beside them.
    """
    written = []
    for name, caption in CAPTIONS.items():
        parts = [pd.read_csv(path) for path in sorted(folder.glob(f"*/{name}/{name}.csv"))]
        if not parts:
            continue
        data = pd.concat([part.dropna(axis=1, how="all") for part in parts])
        data = data.reindex(columns=_COLUMNS).drop_duplicates(["method", "dataset", "figure"])
        table = table_of(data, caption)
        table.write(folder / name)
        path = folder / f"{name}.md"
        path.write_text(f"## {caption}\n\n{table.markdown()}\n", encoding="utf-8")
        written.append(path)
    return written
