"""Tables 2, 3 and 4: this code's figures below the published ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd  # type: ignore[import-untyped]

from mianet.data.datasets import DATASETS
from tuning.analysis.comparison import Spread, paired_difference
from tuning.paper.evidence import FIGURES, Evidence
from tuning.paper.findings import Claim, Findings, Table
from tuning.paper.published import AVERAGE, PublishedRow, published

OURS = "MIANet, this code"
UNKNOWN = "–"
DIFFERS, MISPRINTED = "†", "‡"


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


def find(name: str, evidence: Evidence) -> Findings:
    """Return a table of one data set."""
    layout, setup, printed = LAYOUTS[name], evidence.setup, _printed(name)
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
    published_here = printed[printed["dataset"].isin([setup.dataset, AVERAGE])]
    return Findings(
        data=pd.concat([published_here[_CELL], ours], ignore_index=True),
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
    printed = _printed(name)
    printed = printed[printed["dataset"].isin(datasets)]
    cells = {
        (one.method, one.dataset, one.figure): f"{one.mean:.1f}{one.marks}"
        for one in printed.itertuples()
    } | {
        (one.method, one.dataset, one.figure): str(Spread(one.mean, one.sd, 0))
        for one in _with_average(ours, over - {AVERAGE}).itertuples()
    }
    own = ours["method"].unique()
    methods = [*(row.method for row in rows), *own]
    texts = [(one, *(cells.get((one, *column), UNKNOWN) for column in columns)) for one in methods]
    return Table(
        heading=("method", *(_title(*column) for column in columns)),
        rows=tuple(texts),
        caption=layout.caption,
        notes=(
            *([f"{UNKNOWN}: no figure."] if any(UNKNOWN in row for row in texts) else []),
            *_other_features(ours),
            *_marks(printed),
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


_CELL = ["method", "dataset", "figure", "mean", "published_in"]


def _printed(name: str) -> pd.DataFrame:
    """Return a row for each published figure of a table, with its marks and what they mean."""
    content = published()
    misprints = {one[:4]: one.text for one in content.misprints}
    cells = []
    for row in content.rows(name, LAYOUTS[name].figures):
        where = name if row in content.tables[name] else row.published_in
        copied = content.original(row)
        for dataset, figure in itertools.product([*DATASETS, AVERAGE], LAYOUTS[name].figures):
            value, source = (one and one.value(dataset, figure) for one in (row, copied))
            misprint = misprints.get((where, row.method, dataset, figure))
            differs = source not in (None, value)
            marks = DIFFERS * differs + MISPRINTED * (misprint is not None)
            origin = (source, copied.published_in) if copied and differs else (None, None)
            cells.append(
                (row.method, dataset, figure, value, row.published_in, marks, misprint, *origin)
            )
    columns = [*_CELL, "marks", "misprint", "source", "copied_from"]
    return pd.DataFrame(cells, columns=columns).dropna(subset="mean")


def _marks(printed: pd.DataFrame) -> list[str]:
    """Explain the marks in the shown columns."""
    notes = []
    for key, rows in printed.groupby("copied_from", sort=False):
        texts = [
            f"{one.method} {_title(one.dataset, one.figure)} {one.source:.1f}"
            for one in rows.itertuples()
        ]
        notes.append(
            f"{DIFFERS} The paper's figure differs from its source, which has {', '.join(texts)} "
            f"({published().sources[key]})."
        )
    misprints = " ".join(printed["misprint"].dropna())
    return notes + ([f"{MISPRINTED} Misprint. {misprints}"] if misprints else [])


def _with_average(ours: pd.DataFrame, over: Iterable[str]) -> pd.DataFrame:
    """Append the averages of the methods that have all data sets the paper averages over."""
    of_paper = ours[ours["dataset"].isin(over)]
    complete = of_paper.groupby("method").filter(lambda rows: set(rows["dataset"]) == set(over))
    means = complete.groupby(["method", "figure"], as_index=False)["mean"].mean()
    return pd.concat([ours, means.assign(dataset=AVERAGE)], ignore_index=True)


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
