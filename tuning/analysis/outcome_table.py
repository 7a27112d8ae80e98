"""The outcome of a search as a table that a person reads in a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FIGURES = ("unseen_accuracy", "seen_accuracy", "harmonic_mean", "zsl_accuracy")
HEADINGS = ("ts", "tr", "H", "T1")
_VALIDATION_WIDTH, _FRESH_WIDTH, _TEST_WIDTH = 6, 14, 13
_FEWEST_FOR_DEVIATION = 2


@dataclass(frozen=True)
class Row:
    """A configuration's figures, as fractions of 1; a figure that is missing is printed as ``-``.

    Attributes:
        name: What the configuration is called.
        epochs: How long it was trained.
        validation: Figure → mean over the executions at that epoch.
        fresh: What was selected for on each fresh draw, where the configuration was confirmed.
        test: ``<figure>_mean`` and ``<figure>_sd`` over the seeds.
    """

    name: str
    epochs: int
    validation: Mapping[str, float]
    test: Mapping[str, float]
    fresh: Sequence[float] = ()


def comparison_table(rows: Sequence[Row], *, executions: int, seeds: int, symbol: str = "H") -> str:
    """Return validation beside test figures, in percent, one configuration a line."""
    width = max(len(row.name) for row in rows)
    validation = "".join(f"{h:>{_VALIDATION_WIDTH}}" for h in HEADINGS)
    test = "".join(f"{h:>{_TEST_WIDTH}}" for h in HEADINGS)
    over_validation = f"validation ({executions} executions)".center(len(validation))
    over_test = f"test (mean ± sd of {seeds} seeds)".center(len(test))
    draws = max(len(row.fresh) for row in rows)
    fresh = f"{f'{draws} fresh':>{_FRESH_WIDTH}}" if draws else ""
    fresh_heading = f"{f'draws: {symbol}':>{_FRESH_WIDTH}}" if draws else ""
    lines = [
        f"{'':{width}}         {over_validation}{fresh}  {over_test}".rstrip(),
        f"{'':{width}}  epochs {validation}{fresh_heading}  {test}",
        *(_line(row, width, confirmed=draws > 0) for row in rows),
    ]
    return "\n".join(lines)


def _line(row: Row, width: int, *, confirmed: bool) -> str:
    validation = "".join(f"{_percent(row.validation, f):>{_VALIDATION_WIDTH}}" for f in FIGURES)
    fresh = f"{_over_draws(row.fresh):>{_FRESH_WIDTH}}" if confirmed else ""
    test = "".join(f"{_with_deviation(row.test, f):>{_TEST_WIDTH}}" for f in FIGURES)
    return f"{row.name:{width}}  {row.epochs:6d} {validation}{fresh}  {test}"


def _over_draws(fresh: Sequence[float]) -> str:
    if len(fresh) < _FEWEST_FOR_DEVIATION:
        return f"{100 * fresh[0]:.1f}" if fresh else "-"
    return f"{100 * statistics.fmean(fresh):.1f} ± {100 * statistics.stdev(fresh):>4.1f}"


def _percent(figures: Mapping[str, float], name: str) -> str:
    return f"{100 * figures[name]:.1f}" if name in figures else "-"


def _with_deviation(figures: Mapping[str, float], name: str) -> str:
    mean, deviation = (_percent(figures, f"{name}_{what}") for what in ("mean", "sd"))
    return mean if deviation == "-" else f"{mean} ± {deviation:>4}"
