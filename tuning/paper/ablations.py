"""Figures 4 and 5: what each part of the model is worth, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tuning.analysis.comparison import Difference
from tuning.paper.drawing import BLUE, DOTS, ORANGE, panels, percent_axis
from tuning.paper.evidence import FIGURES, Evidence
from tuning.paper.findings import VERDICTS, Claim, Findings
from tuning.paper.published import published

ABLATED: Mapping[str, tuple[str, str]] = {
    "no_discriminator": ("without the discriminator", "the discriminator"),
    "no_reconstruction": ("without reconstruction", "reconstruction"),
    "self_reconstruction": ("self instead of cross reconstruction", "cross reconstruction"),
}
"""Panels a, b and c: arm → its title, and what the complete model has instead."""
ARMS = ("full", *ABLATED)
METRICS = {
    "figure4": ("unseen_accuracy", "seen_accuracy", "harmonic_mean"),
    "figure5": ("zsl_accuracy",),
}
"""What is compared; the paper's claim is about the last, and so are the numbers it prints."""

_BAR = 0.19  # width; a figure has up to four: ours and the paper's, complete and ablated
_PAPER_STYLE: dict[str, Any] = {"facecolor": "none", "hatch": "////"}


def find(name: str, evidence: Evidence) -> Findings:
    """Return the figures of the complete model and of each ablation, and their differences."""
    metrics, dataset = METRICS[name], evidence.setup.dataset
    differences = {
        arm: {metric: evidence.difference("full", arm, metric) for metric in metrics}
        for arm in ABLATED
    }
    rows = [(arm, m, one) for arm, of_arm in differences.items() for m, one in of_arm.items()]
    frame = pd.DataFrame(
        [
            (arm, FIGURES[m], 100 * one.mean, 100 * one.low, 100 * one.high, one.draws)
            for arm, m, one in rows
        ],
        columns=["arm", "figure", "complete_minus_ablated", "low", "high", "seeds"],
    )
    return Findings(
        data=evidence.per_seed(ARMS, metrics),
        extra={"differences": frame.assign(text=[one.in_points for *_, one in rows])},
        metrics={f"full_minus_{arm}_{metric}": one.mean for arm, metric, one in rows},
        claims=tuple(_claim(name, dataset, arm, of_arm) for arm, of_arm in differences.items()),
        sentences=(
            *(
                one["text"]
                for one in published()["misprints"]
                if (one["where"], one["dataset"]) == (name, dataset)
            ),
            *evidence.divergence_notes(ARMS),
        ),
    )


def _claim(name: str, dataset: str, arm: str, differences: Mapping[str, Difference]) -> Claim:
    full, ablated = _printed(name, dataset, arm)
    *_, (metric, difference) = differences.items()
    by = "" if full is None or ablated is None else f" by {full - ablated:.1f}"
    return Claim(
        f"{ABLATED[arm][1]} raises {FIGURES[metric]}{by}",
        ", ".join(f"{FIGURES[m]} {one.in_points}" for m, one in differences.items()),
        VERDICTS[difference.sign],
    )


def _printed(name: str, dataset: str, arm: str) -> list[float | None]:
    """Return the paper's numbers for the complete and for an ablated model, in percent."""
    arms = published()["bars"][name]["arms"]
    return [arms.get(one, {}).get(dataset) for one in ("full", arm)]


def draw(name: str, evidence: Evidence, findings: Findings) -> Figure:
    """Draw a panel for each ablation: this code's bars, and the paper's where it prints numbers.

    Args:
        name: ``figure4`` or ``figure5``.
        evidence: Of ``ARMS``.
        findings: What ``find`` returned.
    """
    shown, dataset = [FIGURES[metric] for metric in METRICS[name]], evidence.setup.dataset
    differences = findings.extra["differences"].set_index(["arm", "figure"])["text"]
    figure, axes = panels(1, len(ABLATED), sharey=True, width=4.0)
    for letter, panel, (arm, (title, _)) in zip("abc", axes[0], ABLATED.items(), strict=True):
        _bars(panel, findings.data, arm, shown)
        printed = _printed(name, dataset, arm)
        if None not in printed:
            _paper_bars(panel, printed, len(shown) - 1)
        panel.set(title=f"({letter}) {title}", xlim=(-0.6, len(shown) - 0.4))
        panel.grid(True, axis="y")
        labels = [f"{s}\n" + differences.loc[(arm, s)].replace(" ", "\n", 1) for s in shown]
        panel.set_xticks(range(len(shown)), labels)
    percent_axis(axes[0][0])
    axes[0][1].set_xlabel(
        "below the bars: complete − ablated in points, paired by seed [95% interval]\n"
        "bars: mean ± standard deviation; dots: seeds"
    )
    colors = {"complete model": BLUE, "ablated": ORANGE}
    handles = [Patch(color=color, label=label) for label, color in colors.items()]
    if dataset in published()["bars"][name]["arms"]["full"]:
        handles += [
            Patch(edgecolor=color, label=f"{label}, the paper's", **_PAPER_STYLE)
            for label, color in colors.items()
        ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _bars(axes: Axes, data: pd.DataFrame, arm: str, shown: Sequence[str]) -> None:
    """Draw a bar for each mean, its standard deviation, and a dot for each seed."""
    for offset, name, color in ((-0.5, "full", BLUE), (0.5, arm, ORANGE)):
        rows, places = data.loc[data["arm"] == name, shown], np.arange(len(shown)) + offset * _BAR
        error = rows.std(ddof=1).fillna(0)
        style: Any = {"capsize": 3, "error_kw": {"lw": 1}, "color": color}
        axes.bar(places, rows.mean(), _BAR, yerr=error, **style)
        beside = ((np.arange(len(rows)) + 0.5) / len(rows) - 0.5) * _BAR / 2
        axes.scatter(np.add.outer(beside, places), rows, **DOTS)


def _paper_bars(axes: Axes, heights: Sequence[Any], figure: int) -> None:
    for offset, height, color in zip((-1.5, 1.5), heights, (BLUE, ORANGE), strict=True):
        place = figure + offset * _BAR
        axes.bar(place, height, _BAR, edgecolor=color, **_PAPER_STYLE)
        axes.annotate(f"{height:.1f}", (place, height), ha="center", va="bottom", size=7)
