"""Figures 6, 7 and 8: latent dimension, optimisation strategies, new classes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import pandas as pd  # type: ignore[import-untyped]
from matplotlib.figure import Figure

from tuning.analysis.comparison import paired_difference
from tuning.paper import drawing
from tuning.paper.evidence import FIGURES, MULTIPLIERS, NEW_SHARES, Evidence, NothingToShowError
from tuning.paper.findings import AGREES, CONTRADICTS, UNDECIDED, VERDICTS, Claim, Findings

SHOWN = ("harmonic_mean", "zsl_accuracy")
PANEL_TITLES = {"H": "generalized zero-shot, H", "T1": "zero-shot, T1"}

PAPER_PEAK = 2.0  # the multiplier at which the paper's curves peak (section 4.4)
ABOUT_TWICE = (1.5, 2.0, 2.5)  # multipliers at which a peak agrees with the paper's "about twice"

STRATEGIES: Mapping[str, tuple[str, str, str]] = {
    "full": ("iterative", drawing.BLUE, "-"),
    "simultaneous": ("two optimisers at the same time", drawing.ORANGE, "--"),
    "joint": ("one optimiser for all weights", drawing.GREEN, ":"),
}
"""Figure 7: arm → label, colour, line."""

NEW = ("full", *NEW_SHARES)  # the arms of figure 8

_FEW_POINTS = 20  # a curve of no more than this has room for markers


def find_multipliers(evidence: Evidence) -> Findings:
    data = evidence.per_seed(MULTIPLIERS, SHOWN)
    data["arm"] = data["arm"].map(MULTIPLIERS)
    data = data.rename(columns={"arm": "multiplier"})
    means = data.groupby("multiplier")[list(PANEL_TITLES)].mean()
    return Findings(
        data=data,
        metrics={
            f"{name}_at_multiplier_{multiplier:g}": value / 100
            for name in means
            for multiplier, value in means[name].items()
        },
        claims=tuple(
            _peak_claim(evidence, metric, means[FIGURES[metric]].idxmax()) for metric in SHOWN
        ),
        sentences=tuple(evidence.divergence_notes(MULTIPLIERS)),
    )


def _peak_claim(evidence: Evidence, metric: str, best: float) -> Claim:
    """Compare the best multiplier, and the ends of the curve, with the paper's peak."""
    arms = {multiplier: arm for arm, multiplier in MULTIPLIERS.items()}
    peak = arms[PAPER_PEAK]
    ends = {end: evidence.difference(peak, arms[end], metric) for end in (min(arms), max(arms))}
    verdict = UNDECIDED
    if best in ABOUT_TWICE and all(one.sign > 0 for one in ends.values()):
        verdict = AGREES
    elif best not in ABOUT_TWICE and evidence.difference(arms[best], peak, metric).sign > 0:
        verdict = CONTRADICTS
    against = " and ".join(f"{one.in_points} from {end:g}" for end, one in ends.items())
    return Claim(
        f"{FIGURES[metric]} peaks at a latent dimension of about twice the number of classes",
        f"it peaks at {best:g}; {PAPER_PEAK:g} differs by {against}",
        verdict,
    )


def draw_multipliers(evidence: Evidence, findings: Findings) -> Figure:
    figure, axes = drawing.panels(1, 2)
    for panel, (name, title) in zip(axes[0], PANEL_TITLES.items(), strict=True):
        drawing.curve(
            panel, findings.data, "multiplier", name, drawing.BLUE, marker="o", label="mean ± sd"
        )
        panel.scatter("multiplier", name, data=findings.data, label="one seed", **drawing.DOTS)
        panel.axvline(PAPER_PEAK, color="#999999", lw=1, ls="--", label="the paper's choice")
        panel.set(title=title, xlabel="latent dimension / number of classes")
        drawing.percent_axis(panel)
    drawing.legend_below(figure, axes[0][0], columns=3)
    return figure


def find_strategies(evidence: Evidence) -> Findings:
    """Return H and T1 of each strategy after each epoch, by optimisation steps (figure 7)."""
    rows = [
        {
            "strategy": label,
            "seed": seed,
            "iteration": epoch * one.steps,
            "epoch": epoch,
            **{FIGURES[metric]: 100 * getattr(metrics, metric) for metric in SHOWN},
        }
        for arm, (label, *_) in STRATEGIES.items()
        for seed, one in evidence.measured(arm).items()
        for epoch, metrics in enumerate(one.curve, start=1)
    ]
    # The mean of T1 over all epochs is higher the sooner a curve rises.
    t1 = evidence.difference(
        "full", "simultaneous", lambda one: statistics.fmean(e.zsl_accuracy for e in one.curve)
    )
    found = [
        ("converges faster", "simultaneous", f"T1 averaged over all epochs {t1.in_points}", t1)
    ]
    metrics = {}
    for arm, states in (("simultaneous", "ends higher"), ("joint", "ends far higher")):
        h, t1 = (evidence.difference("full", arm, metric) for metric in SHOWN)
        found.append((states, arm, f"T1 {t1.in_points}, H {h.in_points}", t1))
        metrics[f"iterative_minus_{arm}_harmonic_mean"] = h.mean
        metrics[f"iterative_minus_{arm}_zsl_accuracy"] = t1.mean
    claims = [
        Claim(
            f"the iterative strategy {states} than {STRATEGIES[arm][0]}", words, VERDICTS[of.sign]
        )
        for states, arm, words, of in found
    ]
    notes = tuple(evidence.divergence_notes(STRATEGIES))
    return Findings(data=pd.DataFrame(rows), metrics=metrics, claims=tuple(claims), sentences=notes)


def draw_strategies(evidence: Evidence, findings: Findings) -> Figure:
    figure, axes = drawing.panels(1, 2, width=4.4)
    marker = "o" if findings.data["epoch"].max() <= _FEW_POINTS else None
    for panel, (name, title) in zip(axes[0], PANEL_TITLES.items(), strict=True):
        for label, color, line in STRATEGIES.values():
            rows = findings.data[findings.data["strategy"] == label]
            style = {"ls": line, "label": label, "marker": marker, "ms": 3.5}
            drawing.curve(panel, rows, "iteration", name, color, **style)
        panel.set(title=title, xlabel="iteration (optimisation steps)")
        drawing.percent_axis(panel)
    title = "lines: mean; bands: ± standard deviation over seeds"
    drawing.legend_below(figure, axes[0][0], len(STRATEGIES), title)
    return figure


def find_new_classes(evidence: Evidence) -> Findings:
    """Return the accuracy on new classes, by how many unseen classes are new (figure 8).

    A new class's attributes take no part in training and are added for the test. Accuracy is per
    class among all unseen classes, so the number of candidates does not change with the number of
    new classes; where no class is new, it is T1. The same seed's complete model, which knew all
    classes, is scored on the same classes.
    """
    measured = {arm: evidence.measured(arm) for arm in NEW}
    seeds = set.intersection(*(set(of) for of in measured.values()))
    if not seeds:
        raise NothingToShowError("no seed finished for all numbers of new classes")
    rows = []
    for arm, seed in ((arm, seed) for arm in NEW for seed in sorted(seeds)):
        classes = measured[arm][seed].new_classes or measured[arm][seed].class_accuracy
        new, known = (
            100 * statistics.fmean(measured[a][seed].class_accuracy[c] for c in classes)
            for a in (arm, "full")
        )
        rows.append((evidence.setup.new_classes(arm), seed, new, known))
    data = pd.DataFrame(rows, columns=["new_classes", "seed", "new", "same_but_known"])
    data = data.drop_duplicates(["new_classes", "seed"], ignore_index=True)
    means = data.groupby("new_classes")["new"].mean()
    return Findings(
        data=data,
        metrics={f"accuracy_of_{count}_new_classes": v / 100 for count, v in means.items()},
        claims=(_monotonicity_claim(data, means),),
        sentences=(_cost_sentence(data), *evidence.divergence_notes(NEW)),
    )


def _monotonicity_claim(data: pd.DataFrame, means: pd.Series) -> Claim:
    """Compare the accuracy on the fewest new classes with that on the most."""
    by_count = data.pivot(index="seed", columns="new_classes", values="new") / 100
    counts = by_count.columns[by_count.columns > 0]
    sign = paired_difference(by_count[counts[0]].to_dict(), by_count[counts[-1]].to_dict()).sign
    if not means.is_monotonic_decreasing:
        sign = min(sign, 0)
    return Claim(
        "the accuracy on new classes rises monotonically as fewer classes are new",
        ", ".join(f"{value:.1f}% with {count} new" for count, value in means[::-1].items()),
        VERDICTS[sign],
    )


def _cost_sentence(data: pd.DataFrame) -> str:
    count = data["new_classes"].max()
    most = data[data["new_classes"] == count].set_index("seed") / 100
    difference = paired_difference(most["same_but_known"].to_dict(), most["new"].to_dict())
    return (
        f"With all {count} unseen classes new, knowing their attributes in training is worth "
        f"{difference.in_points} points of T1."
    )


def draw_new_classes(evidence: Evidence, findings: Findings) -> Figure:
    """Draw the accuracy on new classes, and on the same classes known in training."""
    figure, axes = drawing.panels(1, 1, width=6.0, height=3.8)
    panel, data = axes[0][0], findings.data
    for column, label, color, line in (
        ("new", "new: attributes withheld from training", drawing.ORANGE, "-"),
        ("same_but_known", "the same classes, attributes known in training", drawing.BLUE, "--"),
    ):
        drawing.curve(panel, data, "new_classes", column, color, ls=line, marker="o", label=label)
    panel.scatter("new_classes", "new", data=data, label="_seeds", **drawing.DOTS)
    panel.set_xticks(data["new_classes"].unique())
    panel.set_xlabel(f"new classes, of {evidence.setup.unseen_classes} unseen ones (0: T1)")
    drawing.percent_axis(panel, "accuracy on new classes (%)")
    title = "lines: mean; bands: ± standard deviation over seeds; dots: seeds"
    drawing.legend_below(figure, panel, title=title)
    return figure
