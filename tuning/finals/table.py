"""The table that a final training ends with: validation beside test."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from mianet.calibration import Calibration
from tuning.analysis.outcome_table import Row, comparison_table
from tuning.finals.recording import CALIBRATED, Tested, accuracies
from tuning.spec.records import RecordedTrial


def table(tested: Mapping[str, Tested], *, seeds: int) -> str:
    """Return validation and test of each configuration as lines of text.

    Args:
        tested: Role → configuration after its final training; one is ``selected``.
        seeds: How many trainings the test figures are averaged over.
    """
    rows = []
    for role, one in tested.items():
        row = Row(
            name=f"{role} (trial {one.trial.number})",
            epochs=one.trial.best_epoch,
            validation=_renamed(one.trial.metrics, "val_"),
            fresh=_fresh(one.trial),
            test=_renamed(one.figures, "test_"),
        )
        rows.append(row)
        if one.calibration:
            rows.append(_calibrated(row, one.calibration, one.figures))
    selected = tested["selected"].trial
    return comparison_table(
        rows, executions=selected.executions, seeds=seeds, symbol=selected.symbol
    )


def _fresh(trial: RecordedTrial) -> tuple[float, ...]:
    return tuple(trial.confirmation.per_draw.values()) if trial.confirmation else ()


def _calibrated(row: Row, calibration: Calibration, figures: Mapping[str, float]) -> Row:
    return dataclasses.replace(
        row,
        name=f"calibrated by {calibration.constant:.3f}",
        validation={**row.validation, **accuracies(calibration)},
        test={**row.test, **_renamed(figures, f"{CALIBRATED}test_")},
    )


def _renamed(figures: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): value for name, value in figures.items()}
