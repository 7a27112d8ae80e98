"""How pictures look: one style, colours that colour-blind readers can tell apart, PNG and SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
RED, PURPLE, SKY = "#D55E00", "#CC79A7", "#56B4E9"
DOTS: Any = {"s": 8, "color": "black", "alpha": 0.6, "zorder": 3}
"""How seeds are drawn, as ``scatter`` takes it."""

_LETTERS_PER_INCH = 11.5  # of a heading
_STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that it is the same everywhere
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "mianet",  # the same picture gives the same file
}


def panels(
    rows: int, columns: int, width: float = 3.6, height: float = 3.4, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes, (rows, columns).

    Args:
        rows: Of panels.
        columns: Of panels.
        width: Of a panel, in inches.
        height: Of a panel, in inches.
        options: Those of ``subplots``.
    """
    figure = Figure(figsize=(columns * width, rows * height + 0.9), layout="constrained")
    return figure, np.asarray(figure.subplots(rows, columns, squeeze=False, **options))


def save_figure(draw: Callable[[], Figure], path: Path, heading: str) -> None:
    """Draw a figure below a heading of title and caption; write ``<path>.png`` and ``.svg``.

    Args:
        draw: Returns the figure.
        path: Of both files, without a suffix.
        heading: Lines of text; long ones are wrapped.
    """
    with mpl.rc_context(_STYLE):
        figure = draw()
        letters = int(figure.get_figwidth() * _LETTERS_PER_INCH)
        lines = [textwrap.fill(line, letters) for line in heading.split("\n")]
        figure.suptitle("\n".join(lines), fontsize=10)
        figure.savefig(path.with_suffix(".png"), dpi=150)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def readable(class_name: str) -> str:
    """Return a class's name as a person writes it: ``persian+cat`` → ``persian cat``."""
    return class_name.replace("+", " ").replace("_", " ").strip()


def curve(axes: Axes, data: pd.DataFrame, x: str, y: str, color: str, **options: Any) -> None:
    """Draw a mean over seeds as a line, and a band of one standard deviation around it.

    Args:
        axes: Where.
        data: A row for each seed and place.
        x: Column of the places on the horizontal axis.
        y: Column of the values.
        color: Of line and band.
        options: Those of ``plot``.
    """
    by_place = data.groupby(x)[y]
    mean, sd = by_place.mean(), by_place.std(ddof=1)
    axes.plot(mean.index, mean, color=color, **options)
    axes.fill_between(mean.index, mean - sd, mean + sd, color=color, alpha=0.15, lw=0)


def percent_axis(axes: Axes, label: str = "accuracy (%)") -> None:
    """Label a vertical axis of percentages that starts at 0 and does not go far beyond 100."""
    axes.set_ylabel(label)
    axes.set_ylim(0, min(axes.get_ylim()[1], 103))
    axes.grid(True, axis="y")


def legend_below(figure: Figure, axes: Axes, columns: int = 1, title: str | None = None) -> None:
    """Put a legend below a figure for what one of its panels draws.

    Args:
        figure: The figure.
        axes: The panel.
        columns: Of the legend.
        title: Its heading.
    """
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, title=title)
