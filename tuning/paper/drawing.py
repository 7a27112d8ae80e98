"""How pictures look: one style, colours that colour-blind readers can tell apart, PNG and SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, PURPLE, SKY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
)
"""Okabe and Ito's palette."""

DOTS_PER_INCH = 150
LETTERS_PER_INCH = 11.5  # of a heading
PANEL_WIDTH, PANEL_HEIGHT = 3.6, 3.4  # inches

STYLE: Any = {
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
"""Settings of matplotlib; only pictures made here get them."""


def panels(rows: int, columns: int, **options: Any) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes, (rows, columns).

    Args:
        rows: Of panels.
        columns: Of panels.
        options: ``width`` and ``height`` of a panel in inches; others are ``subplots``'.
    """
    width = options.pop("width", PANEL_WIDTH)
    height = options.pop("height", PANEL_HEIGHT)
    figure = Figure(figsize=(columns * width, rows * height + 0.9), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, np.asarray(axes)


def save_figure(draw: Callable[[], Figure], path: Path, heading: str) -> None:
    """Draw, and write ``<path>.png`` and ``<path>.svg`` below a heading of title and caption.

    Args:
        draw: Returns the figure.
        path: Of both files, without a suffix.
        heading: Lines of text; long ones are wrapped.
    """
    with mpl.rc_context(STYLE):
        figure = draw()
        letters = int(figure.get_figwidth() * LETTERS_PER_INCH)
        lines = [line for text in heading.split("\n") for line in evenly_wrapped(text, letters)]
        figure.suptitle("\n".join(lines), fontsize=10)
        figure.savefig(path.with_suffix(".png"), dpi=DOTS_PER_INCH)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def evenly_wrapped(text: str, letters: int) -> list[str]:
    """Return a text in as few lines as have at most so many letters, none much shorter."""
    lines = textwrap.wrap(text, letters)
    for fewer in range(letters - 1, 0, -1):
        narrower = textwrap.wrap(text, fewer)
        if len(narrower) > len(lines):
            break
        lines = narrower
    return lines


def readable(class_name: str) -> str:
    """Return a class's name as a person writes it: ``persian+cat`` → ``persian cat``."""
    return class_name.replace("+", " ").replace("_", " ").strip()


def bars(
    axes: Axes,
    places: Sequence[float],
    per_seed: Sequence[Sequence[float]],
    **options: Any,
) -> None:
    """Draw a bar for each mean, its standard deviation, and a dot for each seed.

    Args:
        axes: Where to draw.
        places: The middle of each bar.
        per_seed: The values of each bar.
        options: Of Matplotlib's ``bar``.
    """
    means = [float(np.mean(values)) for values in per_seed]
    errors = [float(np.std(values, ddof=1)) if len(values) > 1 else 0.0 for values in per_seed]
    width = options.pop("width", 0.36)
    axes.bar(places, means, width, yerr=errors, capsize=3, error_kw={"lw": 1}, **options)
    for place, values in zip(places, per_seed, strict=True):
        spread = np.linspace(-width / 4, width / 4, len(values)) if len(values) > 1 else [0.0]
        axes.scatter(place + np.asarray(spread), values, s=9, color="black", alpha=0.6, zorder=3)


def curve(axes: Axes, per_seed: pd.DataFrame, color: str, **options: Any) -> None:
    """Draw the mean of curves and a band of a standard deviation around it.

    Args:
        axes: Where.
        per_seed: A row a seed, a column a place on the horizontal axis; NaN where a seed is lost.
        color: Of line and band.
        options: As of ``plot``.
    """
    mean, sd = per_seed.mean(), per_seed.std(ddof=1)
    axes.plot(per_seed.columns, mean, color=color, **options)
    axes.fill_between(per_seed.columns, mean - sd, mean + sd, color=color, alpha=0.15, lw=0)


def percent_axis(axes: Axes, label: str = "accuracy (%)") -> None:
    """Label a vertical axis of percentages that starts at 0 and does not go far beyond 100."""
    axes.set_ylabel(label)
    axes.set_ylim(0, min(axes.get_ylim()[1], 103))
    axes.grid(True, axis="y")
