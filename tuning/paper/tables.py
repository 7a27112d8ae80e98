"""Tables 2, 3 and 4: this code's figures below the published ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd  # type: ignore[import-untyped]

from mianet.data.datasets import DATASETS
from tuning.analysis.comparison import Spread, paired_difference
from tuning.paper.evidence import FIGURES, Evidence
from tuning.paper.findings import Claim, Findings
from tuning.paper.published import AVERAGE, Misprint, PublishedRow, published
from tuning.paper.rendering import Table

OURS = "MIANet, this code"
UNKNOWN = "–"
DIFFERS, MISPRINTED = "†", "‡"
NOT_COMPARABLE = "not comparable"

Column = tuple[str, str]
"""Data set, or ``AVERAGE``, and figure."""


@dataclass(frozen=True)
class Layout:
    """What a table of the paper shows.

    Attributes:
        metrics: Measured for each data set: names of ``FIGURES``.
        caption: What they are.
    """

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
    metrics, dataset = LAYOUTS[name].metrics, evidence.setup.dataset
    spreads = {metric: Spread.of(evidence.values("full", metric).values()) for metric in metrics}
    ours = _ours(evidence, spreads)
    return Findings(
        data=pd.concat([_published(name, dataset), ours], ignore_index=True)[_COLUMNS],
        more={"seeds": evidence.per_seed(["full"], metrics)},
        table=table_of(name, ours),
        metrics={
            f"{metric}_{what}": value / 100
            for metric, one in spreads.items()
            for what, value in (("mean", one.mean), ("sd", one.sd))
        },
        claims=tuple(
            _claim(evidence, metric, value)
            for metric in metrics
            if (value := published().tables[name][-1].value(dataset, FIGURES[metric])) is not None
        ),
        sentences=tuple(evidence.note(["full"])),
    )


find_gzsl = partial(find, name="table2")
find_zsl = partial(find, name="table3")
find_retrieval = partial(find, name="table4")


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
    own = list(dict.fromkeys(ours["method"]))
    texts = [(row.method, *(_cell(name, row, column) for column in columns)) for row in rows]
    texts += [(method, *(cells.get((method, c), UNKNOWN) for c in columns)) for method in own]
    return Table(
        heading=("method", *(f"{_title(dataset)} {figure}" for dataset, figure in columns)),
        rows=tuple(texts),
        caption=layout.caption,
        notes=(
            *_gaps(texts),
            *_other_features(ours),
            *_marks(name, rows, columns),
            *_sources(name, rows),
        ),
        ours=frozenset(range(len(rows), len(texts))),
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
        path = folder / f"{name}.md"
        path.write_text(f"## {layout.caption}\n\n{table.markdown()}\n", encoding="utf-8")
        written.append(path)
    return written


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


def _published(name: str, dataset: str) -> pd.DataFrame:
    figures = LAYOUTS[name].figures
    rows = [
        (row.method, column, figure, row.value(column, figure), row.published_in)
        for row in published().rows(name, figures)
        for column in (dataset, AVERAGE)
        for figure in figures
    ]
    data = pd.DataFrame(rows, columns=["method", "dataset", "figure", "mean", "published_in"])
    return data.dropna(subset="mean")


def _ours(evidence: Evidence, spreads: Mapping[str, Spread]) -> pd.DataFrame:
    setup = evidence.setup
    rows = [
        {
            "method": f"{OURS} ({setup.role})",
            "dataset": setup.dataset,
            "figure": FIGURES[metric],
            "mean": one.mean,
            "sd": one.sd,
            "seeds": one.count,
            "epochs": setup.epochs,
            "feature_dim": evidence.test.test_unseen_features.shape[1],
        }
        for metric, one in spreads.items()
    ]
    return pd.DataFrame(rows).reindex(columns=_COLUMNS)


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
    original = published().original(row)
    differs = original is not None and original.value(*column) not in (None, value)
    misprinted = any(one.figure == column[1] for one in _misprints(name, row, column[:1]))
    return f"{value:.1f}{DIFFERS * differs}{MISPRINTED * misprinted}"


def _misprints(name: str, row: PublishedRow, datasets: Collection[str]) -> list[Misprint]:
    where = name if row in published().tables[name] else row.published_in
    found = published().misprints_in(where, datasets)
    return [one for one in found if one.method == row.method]


def _gaps(texts: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"{UNKNOWN}: no figure."] if any(UNKNOWN in row for row in texts) else []


def _marks(name: str, rows: Iterable[PublishedRow], columns: Iterable[Column]) -> list[str]:
    """Explain the marks in the shown columns."""
    columns = list(columns)
    differing: dict[str, list[str]] = {}
    for row in rows:
        if (original := published().original(row)) is None:
            continue
        differing.setdefault(original.published_in, []).extend(
            f"{row.method} {_title(dataset)} {figure} {value:.1f}"
            for dataset, figure in columns
            if (value := original.value(dataset, figure)) not in (None, row.value(dataset, figure))
        )
    datasets = {dataset for dataset, _ in columns}
    misprints = [one.text for row in rows for one in _misprints(name, row, datasets)]
    notes = [
        f"{DIFFERS} The paper's figure differs from its source, which has {', '.join(texts)} "
        f"({published().sources[key]})."
        for key, texts in differing.items()
        if texts
    ]
    return notes + ([f"{MISPRINTED} Misprint. {' '.join(misprints)}"] if misprints else [])


def _sources(name: str, rows: Iterable[PublishedRow]) -> list[str]:
    """Return where the figures were published."""
    methods: dict[str, list[str]] = {}
    for row in rows:
        methods.setdefault(row.published_in, []).append(row.method)
    own, sources = published().tables[name][-1].published_in, published().sources
    return [
        f"Published figures: table {name[-1]} of {sources[own]}.",
        *(
            f"{', '.join(methods[key])} (not in that table): {sources[key]}."
            for key in methods
            if key != own
        ),
    ]


def _title(dataset: str) -> str:
    return DATASETS[dataset].title if dataset in DATASETS else dataset


def _other_features(ours: pd.DataFrame) -> list[str]:
    """Say for which data sets the published figures are of other features than ours."""
    return [
        f"{_title(one.dataset)}: the features here have {int(one.feature_dim)} columns instead of "
        f"{DATASETS[one.dataset].feature_dim}, so the published figures are of other features and "
        "their level cannot be compared."
        for one in ours.drop_duplicates("dataset").itertuples()
        if one.dataset in DATASETS and one.feature_dim != DATASETS[one.dataset].feature_dim
    ]


def _comparable(verdict: str, class_embedding: str, features_fit: bool) -> str:
    if not features_fit:
        return f"{NOT_COMPARABLE} (other features)"
    return f"{NOT_COMPARABLE} (another class embedding)" if class_embedding else verdict


def _claim(evidence: Evidence, metric: str, value: float) -> Claim:
    """Compare a figure with the paper's own."""
    seeds = {seed: percent / 100 for seed, percent in evidence.values("full", metric).items()}
    difference = paired_difference(seeds, dict.fromkeys(seeds, value / 100))
    verdict = {1: "higher", 0: "cannot be told apart", -1: "lower"}[difference.sign]
    width, spec = evidence.test.test_unseen_features.shape[1], DATASETS[evidence.setup.dataset]
    return Claim(
        f"{FIGURES[metric]} of MIANet is {value:.1f}%",
        f"{Spread.of([100 * seed for seed in seeds.values()])}%",
        _comparable(verdict, evidence.setup.class_embedding, width == spec.feature_dim),
    )
