"""Ask on recorded curves which objective tells configurations apart, and what its choice is worth.

    python tests/benchmarks/compare_objectives.py numbers --met 5
    python tests/benchmarks/compare_objectives.py awa1 --met 3 --draws 5

Of a table's draws some are met and choose a configuration and its epoch by an objective, as a
search without early stopping would; the others judge the choice, in every figure. Many such splits
are averaged.
"""

import argparse

import numpy as np
from curve_table import FOLDER
from replay import load_curves, smoothed
from scipy.stats import spearmanr

from tuning.spec.objectives import OBJECTIVES

JUDGED = {
    "harmonic_mean": "H",
    "calibrated": "calibrated H",
    "zsl_accuracy": "T1",
    "ausuc": "AUSUC",
}


def curves_by_objective(curves):
    """Return objective → (configurations, draws, epochs), smoothed as the objective asks."""
    return {
        name: smoothed_over_epochs(curves.figures[name], OBJECTIVES[name].window) for name in JUDGED
    }


def smoothed_over_epochs(values, window):
    """Return the trailing mean over epochs of (configurations, draws, epochs)."""
    configurations, draws, epochs = values.shape
    return smoothed(values.reshape(-1, epochs), window).reshape(configurations, draws, epochs)


def share_between(values):
    """Return the share of one draw's variance that is between configurations.

    Each configuration stands at the best epoch of its mean curve. What all configurations have in
    common in a draw is taken off first.

    Args:
        values: (configurations, draws, epochs).
    """
    best = np.nan_to_num(values.mean(1)).argmax(1)
    at_best = np.nan_to_num(values[np.arange(len(values)), :, best])
    residual = at_best - at_best.mean(0) - at_best.mean(1, keepdims=True) + at_best.mean()
    draws = at_best.shape[1]
    within = (residual**2).sum() / ((len(values) - 1) * (draws - 1))
    between = max(0.0, at_best.mean(1).var(ddof=1) - within / draws)
    return between / (between + within)


def split(draws, met, seed):
    """Return the draws that choose and those that judge."""
    order = np.random.default_rng([seed, 23]).permutation(draws)
    return np.sort(order[:met]), np.sort(order[met:])


def judged(curves, by_objective, name, met, others):
    """Choose by one objective on some draws; return the other draws' mean of every figure."""
    mean = np.nan_to_num(by_objective[name][:, met].mean(1), nan=-1)
    row, epoch = np.unravel_index(mean.argmax(), mean.shape)
    return [float(np.nanmean(curves.figures[f][row, others, epoch])) for f in JUDGED]


def rank_correlation(values, first, second):
    """Return Spearman's correlation of the configurations' scores on two halves of the draws."""
    scores = [np.nan_to_num(values[:, half].mean(1)).max(1) for half in (first, second)]
    return float(spearmanr(*scores).statistic)


def compare(curves, met, seeds):
    """Return objective → share between configurations, rank correlation, (seeds, figures)."""
    by_objective = curves_by_objective(curves)
    found = {}
    for name, values in by_objective.items():
        halves = [split(curves.draws // 2 * 2, curves.draws // 2, s) for s in range(seeds)]
        splits = [split(curves.draws, met, s) for s in range(seeds)]
        found[name] = (
            share_between(values),
            float(np.mean([rank_correlation(values, *half) for half in halves])),
            100 * np.array([judged(curves, by_objective, name, *each) for each in splits]),
        )
    return found


def lines(found, paper):
    """Return a table in Markdown."""
    told = [
        "| chosen by | between configurations | rank correlation | "
        + " | ".join(JUDGED.values()) + " |",
        "|---|---|---|" + "---|" * len(JUDGED),
    ]  # fmt: skip
    for name, (share, correlation, worth) in found.items():
        figures = " | ".join(
            f"{mean:.1f} ± {deviation:.1f}"
            for mean, deviation in zip(worth.mean(0), worth.std(0, ddof=1), strict=True)
        )
        told.append(f"| `{name}` | {share:.0%} | {correlation:.2f} | {figures} |")
    told.append("| the paper's configuration | | | " + " | ".join(f"{p:.1f}" for p in paper) + " |")
    return told


def paper_figures(curves, met, seeds):
    """Return the paper's configuration's figures at its best epoch by the default objective."""
    of_paper = [
        [float(np.nanmean(curves.figures[f][0, others, epoch])) for f in JUDGED]
        for mine, others in (split(curves.draws, met, s) for s in range(seeds))
        for epoch in [int(np.nan_to_num(curves.figures["ausuc"][0, mine].mean(0)).argmax())]
    ]
    return 100 * np.mean(of_paper, axis=0)


def early_correlations(curves):
    """Return epoch → Spearman's correlation of the AUSUC reached by then with the final one."""
    mean = np.nan_to_num(curves_by_objective(curves)["ausuc"].mean(1))
    reached = np.maximum.accumulate(mean, axis=1)
    return {
        epoch: float(spearmanr(reached[:, epoch - 1], reached[:, -1]).statistic)
        for epoch in (1, 2, 4, 6, 8, 10, 12, 15, 20)
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", help="name of a recorded table")
    parser.add_argument("--met", type=int, default=5, help="draws that choose")
    parser.add_argument("--draws", type=int, help="of the table; only whole configurations count")
    parser.add_argument("--splits", type=int, default=200)
    arguments = parser.parse_args()
    curves = load_curves(FOLDER / f"{arguments.table}.parquet", arguments.draws)
    print(
        f"{arguments.table}: {len(curves.values)} configurations, {curves.epochs} epochs, "
        f"{arguments.met} of {curves.draws} draws choose, {arguments.splits} splits"
    )
    found = compare(curves, arguments.met, arguments.splits)
    print(*lines(found, paper_figures(curves, arguments.met, arguments.splits)), sep="\n")
    early = early_correlations(curves).items()
    print("rank after epoch:", ", ".join(f"{epoch}: {found:.2f}" for epoch, found in early))


if __name__ == "__main__":
    main()
