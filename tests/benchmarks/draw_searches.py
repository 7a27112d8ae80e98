"""Draw what ``compare_searches`` found: a plot a suite, and one page of tables."""

import json

import matplotlib
import numpy as np
import pyarrow.parquet as pq
from compare_searches import EXECUTIONS, MOMENTS, Result, compared, grouped, interval

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {
    "tpe": "#4477aa", "gp": "#ee6677", "cmaes": "#228833", "qmc": "#ccbb44", "random": "#777777",
    "nsga2": "#aa3377",
}  # fmt: skip
TITLES = {"numbers": "numbers", "awa1": "AwA1"}


def draw(results, docs):
    """Read every result in a folder; write plots and a page into another."""
    docs.mkdir(parents=True, exist_ok=True)
    pages = []
    for path in sorted(results.glob("*.parquet")):
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[b"about"])
        found = [Result(**row) for row in table.to_pylist()]
        pages.append(_page(path.stem, about, found))
        if about["suite"].startswith("samplers"):
            _plot(docs / f"{path.stem}.png", about, grouped(found))
    (docs / "results.md").write_text("\n".join(["# Replayed searches: all figures", *pages]))


def _page(stem, about, found):
    of = grouped(found)
    against = compared(of)
    seeds = len({result.seed for result in found})
    top, paper = (100 * np.mean([getattr(r, n) for r in found]) for n in ("top", "paper"))
    picture = [f"![regret]({stem}.png)", ""] if about["suite"].startswith("samplers") else []
    return "\n".join(
        [
            "",
            f"## {TITLES[about['table']]}: {about['suite']}",
            "",
            f"{about['configurations']} recorded configurations, {about['draws']} draws, "
            f"{seeds} seeds, {about['budget']} epochs of single executions. The true objective of "
            f"the selected configuration in percent; the table's best has {top:.1f}, the paper's "
            f"{paper:.1f}.",
            "",
            *picture,
            "| search | true | less the first's | 95% | at half the budget | 95% | tried | best |",
            "|---|---|---|---|---|---|---|---|",
            *(_row(name, results, against[name]) for name, results in of.items()),
        ]
    )


def _row(name, results, against):
    mean = np.mean([result.by_compute[-1] for result in results])
    low, high = 100 * interval(against)
    middle = 100 * np.nanmean(against, axis=0)
    half = MOMENTS // 2 - 1
    tried = np.mean([result.trials for result in results])
    lowest = 100 * np.mean([result.lowest for result in results])
    return (
        f"| {name} | {100 * mean:.1f} | {middle[-1]:+.1f} | {low[-1]:+.1f} … {high[-1]:+.1f} "
        f"| {middle[half]:+.1f} | {low[half]:+.1f} … {high[half]:+.1f} | {tried:.0f} "
        f"| {lowest:.1f} |"
    )


def _plot(path, about, by_name):
    """Regret of samplers: a row for each number of workers; against compute, and against time."""
    keys = [name.split(" · ") for name in by_name]
    schedulers = list(dict.fromkeys(scheduler for _, scheduler, _ in keys))
    workers = list(dict.fromkeys(w for *_, w in keys))
    figure, axes = plt.subplots(
        len(workers), 2 * len(schedulers), figsize=(8 * len(schedulers), 2.7 * len(workers)),
        sharey=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    for (sampler, scheduler, w), results in zip(keys, by_name.values(), strict=True):
        column = 2 * schedulers.index(scheduler)
        epochs = about["budget"] * np.linspace(1 / MOMENTS, 1, MOMENTS)
        seconds = epochs / EXECUTIONS * about["second"] / int(w)
        by = (("by_compute", epochs), ("by_time", seconds))
        for axis, (figures, x) in zip(axes[workers.index(w)][column:], by, strict=False):
            regret = 100 * np.array([r.top - np.array(getattr(r, figures)) for r in results])
            begun = ~np.isnan(regret).all(0)  # before that, no search has finished an epoch
            regret, x = regret[:, begun], x[begun]
            low, high = interval(regret)
            axis.plot(x, np.nanmean(regret, axis=0), color=COLOURS[sampler], label=sampler, lw=1.6)
            axis.fill_between(x, low, high, color=COLOURS[sampler], alpha=0.12, lw=0)
            axis.set_title(f"{scheduler}, {w} worker{'s' * (w != '1')}", fontsize=10)
            axis.grid(alpha=0.3)
    for column, axis in enumerate(axes[-1]):
        axis.set_xlabel("seconds, simulated" if column % 2 else "epochs of single executions")
    for row in axes:
        row[0].set_ylabel("regret, points of H")
    axes[0][-1].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
