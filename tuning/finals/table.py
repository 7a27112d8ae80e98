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
    rows = [
        Row(
            name=role,
            detail=f"trial {trial.number}, {trial.best_epoch} epoch{'s' * (trial.best_epoch != 1)}",
            validation={n.removeprefix("val_"): value for n, value in trial.metrics.items()},
            fresh=tuple(trial.confirmation.per_draw.values()) if trial.confirmation else (),
            test={name.removeprefix("test_"): value for name, value in figures.items()},
        )
        for role, (trial, figures) in tested.items()
    ]
    selected, _ = tested["selected"]
    return comparison_table(
        rows, executions=selected.executions, seeds=seeds, symbol=selected.symbol
    )
