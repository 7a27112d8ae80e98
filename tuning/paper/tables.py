"""Tables 2, 3 and 4: this code's figures below the published ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd  # type: ignore[import-untyped]

from mianet.data.datasets import DATASETS
from tuning.analysis.comparison import Spread, paired_difference
from tuning.paper.evidence import FIGURES, Evidence
from tuning.paper.findings import Claim, Findings, Table
from tuning.paper.published import AVERAGE, Misprint, PublishedRow, published

OURS = "MIANet, this code"
UNKNOWN = "–"
DIFFERS, MISPRINTED = "†", "‡"

Column = tuple[str, str]
"""Data set, or ``AVERAGE``, and figure."""


class Layout(NamedTuple):
    """What a table of the paper shows of each data set: names of ``FIGURES``, and a caption."""

    metrics: tuple[str, ...]
    caption: str

    @property
    def figures(self) -> list[str]:
        """Return what the paper calls the metrics."""
        return [FIGURES[metric] for metric in self.metrics]


LAYOUTS: Mapping[str, Layout] = {
    "table2": Layout(
        ("unseen_accuracy", "seen_accuracy", "harmonic_mean"),
        "Generalized zero-shot accuracy (%): unseen (ts) and seen (tr) classes, harmonic mean "
        "H; mean ± standard deviation over seeds",
    ),
    "table3": Layout(
        ("zsl_accuracy",),
        "Zero-shot accuracy T1 (%) among the unseen classes; mean ± standard deviation over seeds",
    ),
    "table4": Layout(
        ("retrieval_map",),
        "Retrieval by class attributes, mean average precision (%) among the unseen classes' "
        "images; mean ± standard deviation over seeds",
    ),
}


def find(evidence: Evidence, name: str) -> Findings:
    """Return a table of one data set."""
    layout, setup = LAYOUTS[name], evidence.setup
    seeds = evidence.per_seed(["full"], layout.metrics)
    spreads = [Spread.of(seeds[figure].tolist()) for figure in layout.figures]
    ours = pd.DataFrame(
        {
            "method": f"{OURS} ({setup.role})",
            "dataset": setup.dataset,
            "figure": layout.figures,
            "mean": [one.mean for one in spreads],
            "sd": [one.sd for one in spreads],
            "seeds": [one.count for one in spreads],
            "epochs": setup.epochs,
            "feature_dim": evidence.test.test_unseen_features.shape[1],
            "published_in": "",
        }
    )
    printed = [
        (row.method, column, figure, value, row.published_in)
        for row in published().rows(name, layout.figures)
        for column in (setup.dataset, AVERAGE)
        for figure in layout.figures
        if (value := row.value(column, figure)) is not None
    ]
    columns = ["method", "dataset", "figure", "mean", "published_in"]
    return Findings(
        data=pd.concat([pd.DataFrame(printed, columns=columns), ours], ignore_index=True),
        more={"seeds": seeds},
        table=table_of(name, ours),
        metrics={
            f"{metric}_{what}": getattr(one, what) / 100
            for metric, one in zip(layout.metrics, spreads, strict=True)
            for what in ("mean", "sd")
        },
        claims=tuple(
            _claim(evidence, seeds.set_index("seed")[figure].to_dict(), figure, value)
            for figure in layout.figures
            if (value := published().tables[name][-1].value(setup.dataset, figure))
        ),
        sentences=tuple(evidence.note(["full"])),
    )


def _claim(evidence: Evidence, seeds: Mapping[int, float], figure: str, value: float) -> Claim:
    """Compare a figure of all seeds with the paper's own."""
    setup, difference = evidence.setup, paired_difference(seeds, dict.fromkeys(seeds, value))
    verdict = {1: "higher", 0: "cannot be told apart", -1: "lower"}[difference.sign]
    width = evidence.test.test_unseen_features.shape[1]
    if width != DATASETS[setup.dataset].feature_dim:
        verdict = "not comparable (other features)"
    elif setup.class_embedding:
        verdict = "not comparable (another class embedding)"
    return Claim(f"{figure} of MIANet is {value:.1f}%", f"{Spread.of(seeds.values())}%", verdict)


def table_of(name: str, ours: pd.DataFrame) -> Table:
    """Return a table of the paper over all data sets that were reproduced, our rows last.

    Args:
        name: Of ``LAYOUTS``.
        ours: Rows with method, dataset, figure, mean, sd and feature_dim.
    """
    layout, rows = LAYOUTS[name], published().rows(name, LAYOUTS[name].figures)
    over = rows[-1].results.keys()
    order = [*DATASETS, *ours["dataset"]]
    datasets = sorted(set(ours["dataset"]), key=order.index) + [AVERAGE] * (AVERAGE in over)
    columns = [(dataset, figure) for dataset in datasets for figure in layout.figures]
    cells = {
        (one.method, (one.dataset, one.figure)): str(Spread(one.mean, one.sd, 0))
        for one in _with_average(ours, over - {AVERAGE}).itertuples()
    }
    own = ours["method"].unique()
    texts = [(row.method, *(_cell(name, row, column) for column in columns)) for row in rows]
    texts += [(method, *(cells.get((method, c), UNKNOWN) for c in columns)) for method in own]
    return Table(
        heading=("method", *(_title(*column) for column in columns)),
        rows=tuple(texts),
        caption=layout.caption,
        notes=(
            *([f"{UNKNOWN}: no figure."] if any(UNKNOWN in row for row in texts) else []),
            *_other_features(ours),
            *_marks(name, rows, columns),
            *_sources(name, rows),
        ),
        ours=len(own),
    )


def write_combined(folder: Path) -> list[Path]:
    """Join the tables of all data sets and configurations below a folder.

    Returns:
        The Markdown files written, one for each table; text and LaTeX files are beside them.
    """
    written = []
    for name, layout in LAYOUTS.items():
        parts = [pd.read_csv(path) for path in sorted(folder.glob(f"*/{name}/{name}.csv"))]
        if not parts:
            continue
        data = pd.concat([part[part["published_in"].isna()] for part in parts])
        table = table_of(name, data.drop_duplicates(["method", "dataset", "figure"]))
        table.write(folder / name)
        written.append(folder / f"{name}.md")
        text = f"## {layout.caption}\n\n{table.markdown()}\n"
        written[-1].write_text(text, encoding="utf-8")
    return written


def _with_average(ours: pd.DataFrame, over: Iterable[str]) -> pd.DataFrame:
    """Append the averages of the methods that have all data sets the paper averages over."""
    of_paper = ours[ours["dataset"].isin(over)]
    complete = of_paper.groupby("method").filter(lambda rows: set(rows["dataset"]) == set(over))
    means = complete.groupby(["method", "figure"], as_index=False)["mean"].mean()
    return pd.concat([ours, means.assign(dataset=AVERAGE)], ignore_index=True)


def _cell(name: str, row: PublishedRow, column: Column) -> str:
    value = row.value(*column)
    if value is None:
        return UNKNOWN
    misprinted = any(one.figure == column[1] for one in _misprints(name, row, column[:1]))
    differs = any(_differing(row, [column]))
    return f"{value:.1f}{DIFFERS * differs}{MISPRINTED * misprinted}"


def _misprints(name: str, row: PublishedRow, datasets: Collection[str]) -> list[Misprint]:
    where = name if row in published().tables[name] else row.published_in
    found = published().misprints_in(where, datasets)
    return [one for one in found if one.method == row.method]


def _differing(row: PublishedRow, columns: Iterable[Column]) -> Iterator[tuple[Column, float, str]]:
    """Yield where the source that the paper's row was copied from has another figure."""
    if original := published().original(row):
        for column in columns:
            value = original.value(*column)
            if value is not None and value != row.value(*column):
                yield column, value, original.published_in


def _marks(name: str, rows: Iterable[PublishedRow], columns: Sequence[Column]) -> list[str]:
    """Explain the marks in the shown columns."""
    differing: dict[str, list[str]] = {}
    for row in rows:
        for (dataset, figure), value, source in _differing(row, columns):
            text = f"{row.method} {_title(dataset, figure)} {value:.1f}"
            differing.setdefault(source, []).append(text)
    datasets = {dataset for dataset, _ in columns}
    misprints = [one.text for row in rows for one in _misprints(name, row, datasets)]
    notes = [
        f"{DIFFERS} The paper's figure differs from its source, which has {', '.join(texts)} "
        f"({published().sources[key]})."
        for key, texts in differing.items()
    ]
    return notes + ([f"{MISPRINTED} Misprint. {' '.join(misprints)}"] if misprints else [])


def _sources(name: str, rows: Iterable[PublishedRow]) -> list[str]:
    """Return where the figures were published."""
    methods: dict[str, list[str]] = {}
    for row in rows:
        methods.setdefault(row.published_in, []).append(row.method)
    sources = published().sources
    own = sources[published().tables[name][-1].published_in]
    return [
        f"Published figures: table {name[-1]} of {own}.",
        *(
            f"{', '.join(of_source)} (not in that table): {sources[key]}."
            for key, of_source in methods.items()
            if sources[key] != own
        ),
    ]


def _title(dataset: str, figure: str = "") -> str:
    title = DATASETS[dataset].title if dataset in DATASETS else dataset
    return f"{title} {figure}".strip()


def _other_features(ours: pd.DataFrame) -> list[str]:
    """Say for which data sets the published figures are of other features than ours."""
    return [
        f"{_title(one.dataset)}: the features here have {int(one.feature_dim)} columns instead of "
        f"{DATASETS[one.dataset].feature_dim}, so the published figures are of other features and "
        "their level cannot be compared."
        for one in ours.drop_duplicates("dataset").itertuples()
        if one.dataset in DATASETS and one.feature_dim != DATASETS[one.dataset].feature_dim
    ]
