"""The outcome of a search as a table for a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd  # type: ignore[import-untyped]

FIGURES = {
    "unseen_accuracy": "ts",
    "seen_accuracy": "tr",
    "harmonic_mean": "H",
    "zsl_accuracy": "T1",
    "ausuc": "AUSUC",
    "calibrated_harmonic_mean": "calibrated H",
}
"""Figures of a configuration → their symbols in tables."""


@dataclass(frozen=True)
class Row:
    """A configuration's figures, as fractions of 1; a missing figure is printed as ``-``."""

    name: str  # what the configuration is called, in a word
    detail: str  # which trial it is, and how long it was trained
    validation: Mapping[str, float]  # figure → mean over the executions at that epoch
    test: Mapping[str, float]  # ``<figure>_mean`` and ``<figure>_sd`` over the seeds
    # what was selected for on each fresh draw, where the configuration was confirmed
    fresh: Sequence[float] = ()


def comparison_table(rows: Sequence[Row], *, executions: int, seeds: int, symbol: str = "H") -> str:
    """Return validation beside test figures, in percent, one figure a line.

    Args:
        rows: The configurations.
        executions: Draws that the validation figures are means of.
        seeds: Trainings that the test figures are means of.
        symbol: What was selected for, as tables call it.
    """
    draws = max(len(row.fresh) for row in rows)
    columns = {}
    for row in rows:
        validation = {s: _percent(row.validation.get(f)) for f, s in FIGURES.items()}
        columns[row.name, "validation"] = validation
        if draws:
            columns[row.name, "fresh"] = {symbol: _over_draws(row.fresh)}
        columns[row.name, "test"] = {s: _over_seeds(row.test, f) for f, s in FIGURES.items()}
    table = pd.DataFrame(columns, dtype=object).fillna("")
    fresh = f"fresh: {draws} fresh draws, mean ± sd; " if draws else ""
    return "\n".join(
        [
            *(f"{row.name}: {row.detail}" for row in rows),
            f"percent; validation: {executions} executions; {fresh}"
            f"test: mean ± sd of {seeds} seeds",
            table.to_string(),
        ]
    )


def _over_draws(fresh: Sequence[float]) -> str:
    if not fresh:
        return "-"
    return _with_deviation(statistics.fmean(fresh), statistics.stdev(fresh) if fresh[1:] else None)


def _over_seeds(test: Mapping[str, float], figure: str) -> str:
    return _with_deviation(test.get(f"{figure}_mean"), test.get(f"{figure}_sd"))


def _with_deviation(mean: float | None, deviation: float | None) -> str:
    return _percent(mean) + ("" if deviation is None else f" ± {_percent(deviation):>4}")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
