"""The table that a final training ends with: validation beside test."""

from __future__ import annotations

from collections.abc import Mapping

from tuning.analysis.outcome_table import Row, comparison_table
from tuning.spec.records import RecordedTrial


def table(tested: Mapping[str, tuple[RecordedTrial, Mapping[str, float]]], *, seeds: int) -> str:
    """Return validation and test of each configuration as lines of text.

    Args:
        tested: Role → the trial that the configuration is from, and ``test_<figure>_mean`` and
            ``_sd`` over the seeds; one role is ``selected``.
        seeds: How many trainings the test figures are averaged over.
    """
    rows = []
    for role, (trial, figures) in tested.items():
        rows.append(
            Row(
                name=role,
                detail=f"trial {trial.number}, {_epochs(trial.best_epoch)}",
                validation=_renamed(trial.metrics, "val_"),
                fresh=_fresh(trial),
                test=_renamed(figures, "test_"),
            )
        )
    selected, _ = tested["selected"]
    return comparison_table(
        rows, executions=selected.executions, seeds=seeds, symbol=selected.symbol
    )


def _fresh(trial: RecordedTrial) -> tuple[float, ...]:
    return tuple(trial.confirmation.per_draw.values()) if trial.confirmation else ()


def _epochs(number: int) -> str:
    return f"{number} epoch{'s' * (number != 1)}"


def _renamed(figures: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): value for name, value in figures.items()}
