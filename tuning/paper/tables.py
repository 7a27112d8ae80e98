"""Tables 2, 3 and 4: this code's figures below the published ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd  # type: ignore[import-untyped]

from mianet.data.datasets import DATASETS
from tuning.analysis.comparison import Spread, paired_difference
from tuning.paper.evidence import FIGURES, Evidence
from tuning.paper.findings import Claim, Findings, Table
from tuning.paper.published import AVERAGE, PAPER_METHOD, printed, published

OURS = "MIANet, this code"
UNKNOWN = "–"
DIFFERS, MISPRINTED = "†", "‡"


class Layout(NamedTuple):
    """What a table of the paper shows for each data set: names in ``FIGURES``, and a caption."""

    metrics: tuple[str, ...]
    caption: str

    @property
    def figures(self) -> list[str]:
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
    shown = printed(name).dropna(subset="mean").loc[:, "method":"published_in"]
    shown = shown[shown["dataset"].isin([setup.dataset, AVERAGE])]
    papers = shown[(shown["method"] == PAPER_METHOD) & (shown["dataset"] == setup.dataset)]
    return Findings(
        data=pd.concat([shown, ours], ignore_index=True),
        extra={"seeds": seeds},
        table=table_of(name, ours),
        metrics={
            f"{metric}_{what}": getattr(one, what) / 100
            for metric, one in zip(layout.metrics, spreads, strict=True)
            for what in ("mean", "sd")
        },
        claims=tuple(
            _claim(evidence, seeds.set_index("seed")[one.figure].to_dict(), one.figure, one.mean)
            for one in papers.itertuples()
        ),
        sentences=tuple(evidence.divergence_notes(["full"])),
    )


def _claim(evidence: Evidence, seeds: Mapping[int, float], figure: str, value: float) -> Claim:
    setup, difference = evidence.setup, paired_difference(seeds, dict.fromkeys(seeds, value))
    verdict = {1: "higher", 0: "no significant difference", -1: "lower"}[difference.sign]
    width = evidence.test.test_unseen_features.shape[1]
    if width != DATASETS[setup.dataset].feature_dim:
        verdict = "not comparable (different features)"
    elif setup.class_embedding:
        verdict = "not comparable (different class embedding)"
    return Claim(f"{figure} of MIANet is {value:.1f}%", f"{Spread.of(seeds.values())}%", verdict)


def table_of(name: str, ours: pd.DataFrame) -> Table:
    """Return a table of the paper over all data sets that were reproduced, our rows last.

    Args:
        name: A name in ``LAYOUTS``.
        ours: Rows with method, dataset, figure, mean, sd and feature_dim.
    """
    layout, shown = LAYOUTS[name], printed(name)
    averaged = set(shown["dataset"])
    order = [*DATASETS, *ours["dataset"]]
    datasets = sorted(set(ours["dataset"]), key=order.index) + [AVERAGE] * (AVERAGE in averaged)
    columns = [(dataset, figure) for dataset in datasets for figure in layout.figures]
    methods, own = shown["method"].unique(), ours["method"].unique()
    shown = shown[shown["dataset"].isin(datasets)]
    cells = {
        **{one[1:4]: _cell(one) for one in shown.dropna(subset="mean").itertuples()},
        **{
            (one.method, one.dataset, one.figure): str(Spread(one.mean, one.sd, 0))
            for one in _with_average(ours, averaged - {AVERAGE}).itertuples()
        },
    }
    texts = [
        (method, *(cells.get((method, *column), UNKNOWN) for column in columns))
        for method in (*methods, *own)
    ]
    return Table(
        heading=("method", *(_title(*column) for column in columns)),
        rows=tuple(texts),
        caption=layout.caption,
        notes=(
            *([f"{UNKNOWN}: not reported."] if any(UNKNOWN in row for row in texts) else []),
            *_other_features(ours),
            *_marks(shown),
            *_sources(name),
        ),
        ours=len(own),
    )


def write_combined(folder: Path) -> list[Path]:
    """Join the tables of all data sets below a folder; return the Markdown files written."""
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


def _cell(one: Any) -> str:
    return f"{one.mean:.1f}{DIFFERS * bool(one.copied_from)}{MISPRINTED * bool(one.misprint)}"


def _marks(shown: pd.DataFrame) -> list[str]:
    """Explain the marks in the shown columns."""
    notes = []
    for key, rows in shown[shown["copied_from"] != ""].groupby("copied_from", sort=False):
        texts = [
            f"{one.method} {_title(one.dataset, one.figure)} {one.source:.1f}"
            for one in rows.itertuples()
        ]
        notes.append(
            f"{DIFFERS} The paper's figure differs from its source, which gives {', '.join(texts)} "
            f"({published()['sources'][key]})."
        )
    misprints = " ".join(filter(None, shown["misprint"]))
    return notes + ([f"{MISPRINTED} Misprint. {misprints}"] if misprints else [])


def _with_average(ours: pd.DataFrame, averaged: Iterable[str]) -> pd.DataFrame:
    """Append the averages of the methods that have all data sets the paper averages over."""
    of_paper = ours[ours["dataset"].isin(averaged)]
    complete = of_paper.groupby("method").filter(lambda rows: set(rows["dataset"]) == set(averaged))
    means = complete.groupby(["method", "figure"], as_index=False)["mean"].mean()
    return pd.concat([ours, means.assign(dataset=AVERAGE)], ignore_index=True)


def _sources(name: str) -> list[str]:
    """Return where the figures were published, those of the table's paper first."""
    methods = printed(name).groupby("published_in", sort=False)["method"].unique()
    (own, _), *others = methods.items()
    sources = published()["sources"]
    return [f"Published figures: table {name[-1]} of {sources[own]}."] + [
        f"{', '.join(of_source)} (not in that table): {sources[key]}." for key, of_source in others
    ]


def _title(dataset: str, figure: str = "") -> str:
    title = DATASETS[dataset].title if dataset in DATASETS else dataset
    return f"{title} {figure}".strip()


def _other_features(ours: pd.DataFrame) -> list[str]:
    """Note for which data sets the published figures are for other features than ours."""
    return [
        f"{_title(one.dataset)}: the features here have {int(one.feature_dim)} columns instead of "
        f"{DATASETS[one.dataset].feature_dim}, so the published figures, which are for other "
        "features, are not directly comparable."
        for one in ours.drop_duplicates("dataset").itertuples()
        if one.dataset in DATASETS and one.feature_dim != DATASETS[one.dataset].feature_dim
    ]
