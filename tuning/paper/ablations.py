"""Figures 4 and 5: what each part of the model is worth, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tuning.paper.comparison import Estimate, paired_difference
from tuning.paper.drawing import BLUE, ORANGE, bars, panels, percent_axis
from tuning.paper.evidence import FIGURES, Evidence
from tuning.paper.findings import Findings

ABLATED: Mapping[str, str] = MappingProxyType(
    {
        "no_discriminator": "without the discriminator",
        "no_reconstruction": "without reconstruction",
        "self_reconstruction": "self instead of cross reconstruction",
    }
)
"""Panels a, b and c: arm → what it is."""

ARMS = ("full", *ABLATED)
VERDICTS: Mapping[int, str] = MappingProxyType(
    {
        1: "it is better, as in the paper",
        0: "whether it is better cannot be told from these seeds",
        -1: "it is worse, which contradicts the paper",
    }
)
"""The sign of the interval of full minus another → what it says of the paper's claim."""


def find(evidence: Evidence, figures: Sequence[str]) -> Findings:
    """Return the figures of the complete model and of each ablation, and their differences."""
    differences = {
        (arm, figure): paired_difference(
            evidence.values("full", figure), evidence.values(arm, figure)
        )
        for arm in ABLATED
        for figure in figures
    }
    return Findings(
        data=evidence.per_seed(ARMS, figures),
        more={"differences": _differences_frame(differences)},
        metrics={
            f"full_minus_{arm}_{figure}": one.mean / 100
            for (arm, figure), one in differences.items()
        },
        sentences=(
            *(_sentence(arm, FIGURES[f], one) for (arm, f), one in differences.items()),
            *evidence.note(ARMS),
        ),
    )


find_gzsl = partial(find, figures=("unseen_accuracy", "seen_accuracy", "harmonic_mean"))
find_zsl = partial(find, figures=("zsl_accuracy",))


def draw(evidence: Evidence, findings: Findings) -> Figure:
    """Draw a panel for each ablation: bars of means, deviations, a dot a seed, differences."""
    names = [c for c in findings.data.columns if c not in ("arm", "seed")]
    differences = findings.more["differences"].set_index(["arm", "figure"])
    figure, axes = panels(1, len(ABLATED), sharey=True)
    for letter, panel, (arm, what) in zip("abc", axes[0], ABLATED.items(), strict=True):
        _panel(panel, findings.data, arm, names)
        panel.set_title(f"({letter}) {what}")
        panel.set_xticks(
            range(len(names)),
            [f"{name}\n{_difference(differences.loc[(arm, name)])}" for name in names],
        )
    percent_axis(axes[0][0])
    axes[0][1].set_xlabel(
        "below the bars: complete − ablated in points, paired by seed [95% interval]\n"
        "bars: mean ± standard deviation; dots: seeds"
    )
    figure.legend(
        handles=[Patch(color=BLUE, label="complete model"), Patch(color=ORANGE, label="ablated")],
        loc="outside lower center",
        ncols=2,
    )
    return figure


def _panel(axes: Axes, data: pd.DataFrame, arm: str, names: Sequence[str]) -> None:
    for offset, name, color in ((-0.19, "full", BLUE), (0.19, arm, ORANGE)):
        rows = data[data["arm"] == name]
        places = [k + offset for k in range(len(names))]
        bars(axes, places, [rows[figure].tolist() for figure in names], color=color)
    axes.grid(True, axis="y")
    axes.set_xlim(-0.6, len(names) - 0.4)


def _differences_frame(differences: Mapping[tuple[str, str], Estimate]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "figure": FIGURES[figure],
                "complete_minus_ablated": one.mean,
                "low": one.low,
                "high": one.high,
                "seeds": one.count,
            }
            for (arm, figure), one in differences.items()
        ]
    )


def _difference(row: Any) -> str:
    one = Estimate(row["complete_minus_ablated"], 0.0, row["low"], row["high"], row["seeds"])
    return one.with_interval.replace(" ", "\n", 1)


def _sentence(arm: str, figure: str, one: Estimate) -> str:
    return (
        f"{figure}: complete model minus {ABLATED[arm]}: {one.with_interval} points; "
        f"{VERDICTS[one.sign]}."
    )
