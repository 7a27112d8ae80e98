"""Draw what ``compare_searches`` found: plots of the samplers, and one page of tables."""

import json

import matplotlib
import numpy as np
import pyarrow.parquet as pq
from compare_searches import MOMENTS, Result, grouped, interval, lines

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {
    "tpe": "#4477aa", "cmaes": "#228833", "qmc": "#ccbb44", "random": "#777777", "nsga2": "#aa3377",
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
        if about["suite"] == "samplers":
            _plot(docs / f"{path.stem}.png", about, grouped(found))
    (docs / "results.md").write_text("\n".join(["# Replayed searches: all figures", *pages]))


def _page(stem, about, found):
    seeds = len({result.seed for result in found})
    top, paper = (100 * np.mean([getattr(r, n) for r in found]) for n in ("top", "paper"))
    picture = [f"![regret]({stem}.png)", ""] if about["suite"] == "samplers" else []
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
            *lines(found),
        ]
    )


def _plot(path, about, by_name):
    """Draw the samplers' regret against compute, a panel for each number of workers."""
    workers = list(dict.fromkeys(name.split(" · ")[1] for name in by_name))
    figure, axes = plt.subplots(
        1, len(workers), figsize=(3.4 * len(workers), 3), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    epochs = about["budget"] * np.linspace(1 / MOMENTS, 1, MOMENTS)
    for name, results in by_name.items():
        sampler, w = name.split(" · ")
        axis = axes[0][workers.index(w)]
        regret = 100 * np.array([r.top - np.array(r.by_compute) for r in results])
        begun = ~np.isnan(regret).all(0)  # before that, no search has finished an epoch
        regret = regret[:, begun]
        low, high = interval(regret)
        mean = np.nanmean(regret, axis=0)
        axis.plot(epochs[begun], mean, color=COLOURS[sampler], label=sampler, lw=1.6)
        axis.fill_between(epochs[begun], low, high, color=COLOURS[sampler], alpha=0.12, lw=0)
        axis.set_title(f"{w} worker{'s' * (w != '1')}", fontsize=10)
        axis.set_xlabel("epochs of single executions")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("regret, points of AUSUC")
    axes[0][-1].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
