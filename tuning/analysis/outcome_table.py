"""The table that a final training ends with: validation beside test."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import pandas as pd  # type: ignore[import-untyped]

from tuning.spec.records import RecordedTrial, counted

FIGURES = {
    "unseen_accuracy": "ts",
    "seen_accuracy": "tr",
    "harmonic_mean": "H",
    "zsl_accuracy": "T1",
    "ausuc": "AUSUC",
    "calibrated_harmonic_mean": "calibrated H",
}
"""Figures of a configuration → their symbols in tables."""


def outcome_table(
    tested: Mapping[str, tuple[RecordedTrial, Mapping[str, float]]], *, seeds: int
) -> str:
    """Return validation beside test figures in percent, one figure per line; ``-`` if unknown.

    Args:
        tested: Role → the trial that the configuration is from, and ``test_<figure>_mean`` and
            ``_sd`` over the seeds; one role is ``selected``.
        seeds: How many trainings the test figures are averaged over.
    """
    selected, _ = tested["selected"]
    draws = max(len(trial.fresh_draws) for trial, _ in tested.values())
    lines, columns = [], {}
    for role, (trial, test) in tested.items():
        lines.append(
            f"{role}: trial {trial.number}, {counted(trial.best_epoch, 'epoch')} in validation, "
            f"{trial.final_epochs} in the final training"
        )
        validation = {s: _percent(trial.metrics.get(f"val_{f}")) for f, s in FIGURES.items()}
        columns[role, "validation"] = validation
        if draws:
            columns[role, "fresh"] = {selected.symbol: _over_draws(trial.fresh_draws)}
        columns[role, "test"] = {
            s: _with_deviation(test.get(f"test_{f}_mean"), test.get(f"test_{f}_sd"))
            for f, s in FIGURES.items()
        }
    table = pd.DataFrame(columns, dtype=object).fillna("")
    fresh = f"fresh: {draws} fresh draws, mean ± sd; " if draws else ""
    lines.append(
        f"percent; validation: {selected.executions} executions; {fresh}"
        f"test: mean ± sd of {seeds} seeds"
    )
    return "\n".join([*lines, table.to_string()])


def _over_draws(fresh: Mapping[int, float]) -> str:
    values = list(fresh.values())
    if not values:
        return "-"
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return _with_deviation(statistics.fmean(values), deviation)


def _with_deviation(mean: float | None, deviation: float | None) -> str:
    return _percent(mean) + ("" if deviation is None else f" ± {_percent(deviation):>4}")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
