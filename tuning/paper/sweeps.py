"""Figures 6, 7 and 8: latent dimension, optimisation strategies, new classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd  # type: ignore[import-untyped]
from matplotlib.figure import Figure

from tuning.analysis.comparison import Difference, paired_difference
from tuning.paper.drawing import BLUE, GREEN, ORANGE, curve, panels, percent_axis
from tuning.paper.evidence import FIGURES, MULTIPLIERS, NEW_SHARES, Evidence, NothingToShowError
from tuning.paper.findings import AGREES, CONTRADICTS, UNDECIDED, VERDICTS, Claim, Findings

SHOWN = ("harmonic_mean", "zsl_accuracy")
PANEL_TITLES = {"H": "generalized zero-shot, H", "T1": "zero-shot, T1"}

MULTIPLIER_ARMS = tuple(f"multiplier_{m:g}" for m in MULTIPLIERS)
PAPER_PEAK = 2.0
"""The multiplier at which the paper's curves peak (section 4.4)."""
ABOUT_TWICE = (1.5, 2.0, 2.5)
"""Multipliers at which a peak agrees with the paper's "about twice"."""

STRATEGIES: Mapping[str, tuple[str, str, str]] = {
    "full": ("iterative", BLUE, "-"),
    "simultaneous": ("two optimisers at the same time", ORANGE, "--"),
    "joint": ("one optimiser for all weights", GREEN, ":"),
}
"""Figure 7: arm → label, colour, line."""

NEW = ("full", *NEW_SHARES)


def find_multipliers(evidence: Evidence) -> Findings:
    """Return H and T1 for each latent multiplier (figure 6)."""
    data = evidence.per_seed(MULTIPLIER_ARMS, SHOWN)
    data.insert(0, "multiplier", [evidence.setup.arm(a).latent_multiplier for a in data["arm"]])
    means = data.groupby("multiplier")[[FIGURES[metric] for metric in SHOWN]].mean()
    return Findings(
        data=data.drop(columns="arm"),
        metrics={
            f"{name}_at_multiplier_{multiplier:g}": value / 100
            for name in means
            for multiplier, value in means[name].items()
        },
        claims=tuple(_peak(evidence, metric, means[FIGURES[metric]]) for metric in SHOWN),
        sentences=tuple(evidence.note(MULTIPLIER_ARMS)),
    )


def _peak(evidence: Evidence, metric: str, means: pd.Series) -> Claim:
    """Compare the best multiplier, and the ends of the curve, with the paper's peak."""

    def minus(first: float, second: float) -> Difference:
        return evidence.difference(f"multiplier_{first:g}", f"multiplier_{second:g}", metric)

    best = float(means.idxmax())
    ends = {end: minus(PAPER_PEAK, end) for end in (MULTIPLIERS[0], MULTIPLIERS[-1])}
    verdict = UNDECIDED
    if best in ABOUT_TWICE and all(one.sign > 0 for one in ends.values()):
        verdict = AGREES
    elif best not in ABOUT_TWICE and minus(best, PAPER_PEAK).sign > 0:
        verdict = CONTRADICTS
    against = " and ".join(f"{one.in_points} from {end:g}" for end, one in ends.items())
    return Claim(
        f"{FIGURES[metric]} peaks at a latent dimension of about twice the number of classes",
        f"it peaks at {best:g}; {PAPER_PEAK:g} differs by {against}",
        verdict,
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
            **{FIGURES[metric]: 100 * getattr(metrics, metric) for metric in SHOWN},
        }
        for arm in STRATEGIES
        for seed, one in evidence.of(arm).items()
        for epoch, metrics in enumerate(one.curve)
    ]
    others = [arm for arm in STRATEGIES if arm != "full"]
    return Findings(
        data=pd.DataFrame(rows),
        metrics={
            f"iterative_minus_{arm}_{metric}": evidence.difference("full", arm, metric).mean
            for arm in others
            for metric in SHOWN
        },
        claims=(
            _faster(evidence, "simultaneous"),
            _ends_higher(evidence, "simultaneous", "the iterative strategy ends higher than"),
            _ends_higher(evidence, "joint", "the iterative strategy ends far higher than"),
        ),
        sentences=tuple(evidence.note(STRATEGIES)),
    )


def _faster(evidence: Evidence, arm: str) -> Claim:
    """Compare the mean of T1 over all epochs, which is higher the sooner a curve rises."""
    difference = evidence.paired(
        "full", arm, lambda one: sum(epoch.zsl_accuracy for epoch in one.curve) / len(one.curve)
    )
    return Claim(
        f"the iterative strategy converges faster than {STRATEGIES[arm][0]}",
        f"T1 averaged over all epochs {difference.in_points}",
        VERDICTS[difference.sign],
    )


def _ends_higher(evidence: Evidence, arm: str, states: str) -> Claim:
    t1, h = (evidence.difference("full", arm, m) for m in ("zsl_accuracy", "harmonic_mean"))
    return Claim(
        f"{states} {STRATEGIES[arm][0]}",
        f"T1 {t1.in_points}, H {h.in_points}",
        VERDICTS[t1.sign],
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


def find_new_classes(evidence: Evidence) -> Findings:
    """Return the accuracy on new classes, by how many unseen classes are new (figure 8).

    A new class's attributes take no part in training and are added for the test. Accuracy is per
    class among all unseen classes, so the number of candidates does not change with the number of
    new classes; where no class is new, it is T1. The same seed's complete model, which knew all
    classes, is scored on the same classes.
    """
    measured = {arm: evidence.of(arm) for arm in NEW}
    seeds = set.intersection(*(set(of) for of in measured.values()))
    if not seeds:
        raise NothingToShowError("every seed diverged for some number of new classes")
    rows = [
        {
            "new_classes": evidence.setup.new_classes(arm),
            "seed": seed,
            "new": _percent(one.class_accuracy, one.new_classes),
            "same_but_known": _percent(measured["full"][seed].class_accuracy, one.new_classes),
        }
        for arm, of in measured.items()
        for seed, one in of.items()
        if seed in seeds
    ]
    data = pd.DataFrame(rows).drop_duplicates(["new_classes", "seed"], ignore_index=True)
    means = data.groupby("new_classes")["new"].mean()
    return Findings(
        data=data,
        metrics={f"accuracy_of_{count}_new_classes": v / 100 for count, v in means.items()},
        claims=(_rises(data),),
        sentences=(_cost(data), *evidence.note(NEW)),
    )


def _percent(accuracy: Mapping[int, float], classes: Sequence[int]) -> float:
    """Return the mean accuracy of some classes, or of all where there are none."""
    values = [accuracy[c] for c in classes or accuracy]
    return 100 * sum(values) / len(values)


def _rises(data: pd.DataFrame) -> Claim:
    """Compare the accuracy on the fewest new classes with that on the most."""
    fractions = data[data["new_classes"] > 0].set_index("seed")
    by_count = {count: rows["new"] / 100 for count, rows in fractions.groupby("new_classes")}
    fewest, most = by_count[min(by_count)], by_count[max(by_count)]
    means = data.groupby("new_classes")["new"].mean()
    sign = paired_difference(fewest.to_dict(), most.to_dict()).sign
    if sign > 0 and not means.is_monotonic_decreasing:
        sign = 0
    values = ", ".join(f"{value:.1f}% with {count} new" for count, value in means[::-1].items())
    return Claim(
        "the accuracy on new classes rises monotonically as fewer classes are new",
        values,
        VERDICTS[sign],
    )


def _cost(data: pd.DataFrame) -> str:
    most = data[data["new_classes"] == data["new_classes"].max()].set_index("seed") / 100
    difference = paired_difference(most["same_but_known"].to_dict(), most["new"].to_dict())
    return (
        f"With all {data['new_classes'].max()} unseen classes new, knowing their attributes in "
        f"training is worth {difference.in_points} points of T1."
    )


def draw_new_classes(evidence: Evidence, findings: Findings) -> Figure:
    """Draw the accuracy on new classes, and on the same classes known in training."""
    figure, axes = panels(1, 1, width=6.0, height=3.8)
    panel, data = axes[0][0], findings.data
    for column, label, color, line in (
        ("new", "new: attributes withheld from training", ORANGE, "-"),
        ("same_but_known", "the same classes, attributes known in training", BLUE, "--"),
    ):
        table = data.pivot_table(index="seed", columns="new_classes", values=column)
        curve(panel, table, color, ls=line, marker="o", label=label)
    panel.scatter(data["new_classes"], data["new"], s=8, color="black", alpha=0.6, zorder=3)
    panel.set_xticks(sorted(set(data["new_classes"])))
    panel.set_xlabel(f"new classes, of {evidence.setup.unseen_classes} unseen ones (0: T1)")
    percent_axis(panel, "accuracy on new classes (%)")
    figure.legend(
        *panel.get_legend_handles_labels(),
        loc="outside lower center",
        title="lines: mean; bands: ± standard deviation over seeds; dots: seeds",
    )
    return figure


FEW_POINTS = 20
"""Points of a curve that have room for a mark each."""
