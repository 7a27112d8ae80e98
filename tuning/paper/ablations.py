"""Figures 4 and 5: what each part of the model is worth, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tuning.analysis.comparison import Difference
from tuning.paper.drawing import BLUE, ORANGE, bars, panels, percent_axis
from tuning.paper.evidence import FIGURES, Evidence
from tuning.paper.findings import VERDICTS, Claim, Findings
from tuning.paper.published import Bars, published, published_figures

ABLATED: Mapping[str, tuple[str, str]] = {
    "no_discriminator": ("without the discriminator", "the discriminator"),
    "no_reconstruction": ("without reconstruction", "reconstruction"),
    "self_reconstruction": ("self instead of cross reconstruction", "cross reconstruction"),
}
"""Panels a, b and c: arm → its title, and what the complete model has instead."""

ARMS = ("full", *ABLATED)


def find(evidence: Evidence, name: str, metrics: Sequence[str]) -> Findings:
    """Return the figures of the complete model and of each ablation, and their differences.

    Args:
        evidence: Of ``ARMS``.
        name: ``figure4`` or ``figure5``.
        metrics: What is compared; the paper's claim is about the last.
    """
    differences = {
        (arm, metric): evidence.difference("full", arm, metric)
        for arm in ABLATED
        for metric in metrics
    }
    misprints = published().misprints_in(name, [evidence.setup.dataset])
    return Findings(
        data=evidence.per_seed(ARMS, metrics),
        more={"differences": _differences_frame(differences)},
        metrics={
            f"full_minus_{arm}_{metric}": one.mean for (arm, metric), one in differences.items()
        },
        claims=tuple(
            _claim(evidence, name, arm, {metric: differences[arm, metric] for metric in metrics})
            for arm in ABLATED
        ),
        sentences=(*(one.text for one in misprints), *evidence.note(ARMS)),
    )


find_gzsl = partial(
    find, name="figure4", metrics=("unseen_accuracy", "seen_accuracy", "harmonic_mean")
)
find_zsl = partial(find, name="figure5", metrics=("zsl_accuracy",))


def _claim(evidence: Evidence, name: str, arm: str, differences: Mapping[str, Difference]) -> Claim:
    *_, (metric, difference) = differences.items()
    printed, dataset = published_figures().bars[name], evidence.setup.dataset
    full, ablated = (printed.value(a, dataset, printed.figure) for a in ("full", arm))
    by = "" if full is None or ablated is None else f" by {full - ablated:.1f}"
    return Claim(
        f"{ABLATED[arm][1]} raises {FIGURES[metric]}{by}",
        ", ".join(f"{FIGURES[m]} {one.in_points}" for m, one in differences.items()),
        VERDICTS[difference.sign],
    )


def draw(evidence: Evidence, findings: Findings, name: str) -> Figure:
    """Draw a panel for each ablation: this code's bars, and the paper's where it prints numbers.

    Args:
        evidence: Of ``ARMS``.
        findings: What ``find`` returned.
        name: ``figure4`` or ``figure5``.
    """
    shown = [c for c in findings.data.columns if c not in ("arm", "seed")]
    differences = findings.more["differences"].set_index(["arm", "figure"])["text"]
    figure, axes = panels(1, len(ABLATED), sharey=True, width=4.0)
    printed = published_figures().bars[name]
    for letter, panel, (arm, (title, _)) in zip("abc", axes[0], ABLATED.items(), strict=True):
        _panel(panel, findings.data, arm, shown)
        _paper_bars(panel, printed, arm, shown, evidence.setup.dataset)
        panel.set_title(f"({letter}) {title}")
        panel.set_xticks(
            range(len(shown)),
            [f"{s}\n" + differences.loc[(arm, s)].replace(" ", "\n", 1) for s in shown],
        )
    percent_axis(axes[0][0])
    axes[0][1].set_xlabel(
        "below the bars: complete − ablated in points, paired by seed [95% interval]\n"
        "bars: mean ± standard deviation; dots: seeds"
    )
    _legend(figure, printed=evidence.setup.dataset in printed.arms["full"])
    return figure


draw_gzsl = partial(draw, name="figure4")
draw_zsl = partial(draw, name="figure5")


def _legend(figure: Figure, *, printed: bool) -> None:
    labels = {"complete model": BLUE, "ablated": ORANGE}
    handles = [Patch(color=color, label=label) for label, color in labels.items()]
    if printed:
        handles += [
            Patch(edgecolor=color, label=f"{label}, the paper's", **PAPER_STYLE)
            for label, color in labels.items()
        ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


BAR = 0.19
"""Width of a bar; a figure has up to four: ours and the paper's, complete and ablated."""
PAPER_STYLE: dict[str, Any] = {"facecolor": "none", "hatch": "////"}


def _panel(axes: Axes, data: pd.DataFrame, arm: str, shown: Sequence[str]) -> None:
    for offset, name, color in ((-0.5, "full", BLUE), (0.5, arm, ORANGE)):
        rows = data[data["arm"] == name]
        places = [k + offset * BAR for k in range(len(shown))]
        bars(axes, places, [rows[figure].tolist() for figure in shown], color=color, width=BAR)
    axes.grid(True, axis="y")
    axes.set_xlim(-0.6, len(shown) - 0.4)


def _paper_bars(axes: Axes, printed: Bars, arm: str, shown: Sequence[str], dataset: str) -> None:
    for offset, name, color in ((-1.5, "full", BLUE), (1.5, arm, ORANGE)):
        for k, figure in enumerate(shown):
            height = printed.value(name, dataset, figure)
            if height is not None and printed.value(arm, dataset, figure) is not None:
                place = k + offset * BAR
                axes.bar(place, height, BAR, edgecolor=color, **PAPER_STYLE)
                axes.annotate(f"{height:.1f}", (place, height), ha="center", va="bottom", size=7)


def _differences_frame(differences: Mapping[tuple[str, str], Difference]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "figure": FIGURES[metric],
                "complete_minus_ablated": 100 * one.mean,
                "low": 100 * one.low,
                "high": 100 * one.high,
                "seeds": one.draws,
                "text": one.in_points,
            }
            for (arm, metric), one in differences.items()
        ]
    )
