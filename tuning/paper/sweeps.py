"""Figures 6, 7 and 8: latent dimension, optimisation strategies, new categories."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from matplotlib.figure import Figure

from tuning.paper.ablations import VERDICTS
from tuning.paper.comparison import estimate, paired_difference
from tuning.paper.drawing import BLUE, GREEN, ORANGE, bars, curve, panels, percent_axis, readable
from tuning.paper.evidence import FIGURES, MULTIPLIERS, Evidence
from tuning.paper.findings import Findings

SHOWN = ("harmonic_mean", "zsl_accuracy")
PANEL_TITLES = {"H": "generalized zero-shot, H", "T1": "zero-shot, T1"}

MULTIPLIER_ARMS = tuple(f"multiplier_{m:g}" for m in MULTIPLIERS)
PAPER_PEAK = 2.0
"""The multiplier at which the paper's curves peak (section 4.4)."""

STRATEGIES: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "full": ("iterative", BLUE, "-"),
        "simultaneous": ("simultaneous, two optimisers", ORANGE, "--"),
        "joint": ("joint, one objective for all weights", GREEN, ":"),
    }
)
"""Figure 7: arm → label, colour, line."""

KNOWN: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "full": ("attributes known in training", BLUE),
        "withheld_attributes": ("attributes withheld", ORANGE),
    }
)
"""Figure 8: arm → label, colour."""


def find_multipliers(evidence: Evidence) -> Findings:
    """Return H and T1 for each latent multiplier (figure 6)."""
    data = evidence.per_seed(MULTIPLIER_ARMS, SHOWN)
    data.insert(0, "multiplier", [evidence.setup.arm(a).latent_multiplier for a in data["arm"]])
    means = data.groupby("multiplier")[["H", "T1"]].mean()
    sentences = [
        f"{name} is highest, {means[name].max():.1f}%, at {means[name].idxmax():g} times the "
        f"number of classes; the paper's peak is at {PAPER_PEAK:g}."
        for name in ("H", "T1")
    ]
    sentences += [_best_against_peak(evidence, figure, means) for figure in SHOWN]
    metrics = {
        f"{name}_at_multiplier_{multiplier:g}": value / 100
        for name in ("H", "T1")
        for multiplier, value in means[name].items()
    }
    return Findings(
        data=data.drop(columns="arm"),
        metrics=metrics,
        sentences=(*sentences, *evidence.note(MULTIPLIER_ARMS)),
    )


def _best_against_peak(evidence: Evidence, figure: str, means: pd.DataFrame) -> str:
    """Say whether the best multiplier can be told from the paper's."""
    name = FIGURES[figure]
    best = float(means[name].idxmax())
    if best == PAPER_PEAK:
        runner_up = float(means[name].drop(best).idxmax())
        best, other = PAPER_PEAK, runner_up
    else:
        other = PAPER_PEAK
    difference = paired_difference(
        evidence.values(f"multiplier_{best:g}", figure),
        evidence.values(f"multiplier_{other:g}", figure),
    )
    told = "can" if difference.sign else "cannot"
    return (
        f"{name} at {best:g} minus at {other:g}, paired by seed: {difference.with_interval} "
        f"points; the two {told} be told apart."
    )


def draw_multipliers(evidence: Evidence, findings: Findings) -> Figure:
    """Draw H and T1 against the multiplier."""
    figure, axes = panels(1, 2)
    for panel, (name, title) in zip(axes[0], PANEL_TITLES.items(), strict=True):
        table = findings.data.pivot_table(index="seed", columns="multiplier", values=name)
        curve(panel, table, BLUE, marker="o", label="mean ± sd")
        panel.scatter(
            findings.data["multiplier"],
            findings.data[name],
            s=8,
            color="black",
            alpha=0.6,
            zorder=3,
            label="a seed",
        )
        panel.axvline(PAPER_PEAK, color="#999999", lw=1, ls="--", label="the paper's choice")
        panel.set_title(title)
        panel.set_xlabel("latent dimension / number of classes")
        percent_axis(panel)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def find_strategies(evidence: Evidence) -> Findings:
    """Return H and T1 of each strategy after each epoch, by optimisation steps (figure 7)."""
    rows = [
        {
            "strategy": STRATEGIES[arm][0],
            "seed": seed,
            "iteration": (epoch + 1) * one.steps,
            "epoch": epoch + 1,
            **{FIGURES[figure]: 100 * getattr(metrics, figure) for figure in SHOWN},
        }
        for arm in STRATEGIES
        for seed, one in evidence.of(arm).items()
        for epoch, metrics in enumerate(one.curve)
    ]
    differences = {
        (arm, figure): paired_difference(
            evidence.values("full", figure), evidence.values(arm, figure)
        )
        for arm in STRATEGIES
        if arm != "full"
        for figure in SHOWN
    }
    return Findings(
        data=pd.DataFrame(rows),
        metrics={
            f"iterative_minus_{arm}_{figure}": one.mean / 100
            for (arm, figure), one in differences.items()
        },
        sentences=(
            *(
                f"{FIGURES[figure]} at the end: iterative minus {STRATEGIES[arm][0]}: "
                f"{one.with_interval} points; {VERDICTS[one.sign]}."
                for (arm, figure), one in differences.items()
            ),
            *evidence.note(STRATEGIES),
        ),
    )


def draw_strategies(evidence: Evidence, findings: Findings) -> Figure:
    """Draw H and T1 against optimisation steps, a line a strategy."""
    figure, axes = panels(1, 2, width=4.4)
    for panel, (name, title) in zip(axes[0], PANEL_TITLES.items(), strict=True):
        for label, color, line in STRATEGIES.values():
            rows = findings.data[findings.data["strategy"] == label]
            table = rows.pivot_table(index="seed", columns="iteration", values=name)
            marker = "o" if len(table.columns) <= FEW_POINTS else None
            curve(panel, table, color, ls=line, label=label, marker=marker, ms=3.5)
        panel.set_title(title)
        panel.set_xlabel("iteration (optimisation steps)")
        percent_axis(panel)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(labels),
        title="lines: mean; bands: ± standard deviation over seeds",
    )
    return figure


def find_new_categories(evidence: Evidence) -> Findings:
    """Return the accuracy on the unseen classes when training knows their attributes or not."""
    test = evidence.test
    names = [test.class_names[c] for c in test.unseen_classes]
    rows = [
        {"arm": arm, "seed": seed, "category": name, "accuracy": 100 * accuracy}
        for arm in KNOWN
        for seed, one in evidence.of(arm).items()
        for name, accuracy in zip(names, one.class_accuracy, strict=True)
    ]
    arm, figures = "withheld_attributes", ("zsl_accuracy", "unseen_accuracy", "harmonic_mean")
    differences = {
        f: paired_difference(evidence.values("full", f), evidence.values(arm, f)) for f in figures
    }
    means = {f: estimate(list(evidence.values(arm, f).values())) for f in figures}
    return Findings(
        data=pd.DataFrame(rows),
        more={"summary": evidence.per_seed(KNOWN, figures)},
        metrics={f"withheld_{f}_mean": one.mean / 100 for f, one in means.items()},
        sentences=(
            *(
                f"{FIGURES[f]} with the attributes withheld is {means[f].with_sd}%; known minus "
                f"withheld: {differences[f].with_interval} points."
                for f in figures
            ),
            *evidence.note(KNOWN),
        ),
    )


def draw_new_categories(evidence: Evidence, findings: Findings) -> Figure:
    """Draw the accuracy of each new category, and of their mean, with and without attributes."""
    categories = list(dict.fromkeys(findings.data["category"]))
    shown = categories if len(categories) <= MAX_CATEGORIES else []
    labels = [*map(readable, shown), "mean (T1)"]
    figure, axes = panels(1, 1, width=max(5.5, 0.75 * len(labels)), height=3.8)
    panel = axes[0][0]
    for offset, (arm, (label, color)) in zip((-0.19, 0.19), KNOWN.items(), strict=True):
        rows = findings.data[findings.data["arm"] == arm]
        values = [rows.loc[rows["category"] == name, "accuracy"].tolist() for name in shown]
        values.append(rows.groupby("seed")["accuracy"].mean().tolist())
        bars(panel, list(np.arange(len(labels)) + offset), values, color=color, label=label)
    slant = {"rotation": 35, "ha": "right"} if max(map(len, labels)) > SHORT_LABEL else {}
    panel.set_xticks(range(len(labels)), labels, **slant)
    percent_axis(panel, "accuracy among new categories (%)")
    figure.legend(
        *panel.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        title="bars: mean ± standard deviation; dots: seeds",
    )
    return figure


FEW_POINTS = 20
"""Points of a curve that have room for a mark each."""

SHORT_LABEL = 9
"""Letters that have room below their bar; longer ones are written slanted."""

MAX_CATEGORIES = 20
"""More categories than this are shown by their mean alone."""
