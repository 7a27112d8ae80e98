"""What a search maximises: AUSUC, H with or without calibration, T1, or H and T1."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_H, _T1, _BOTH = "val_harmonic_mean", "val_zsl_accuracy", "val_both"
_AUSUC, _CALIBRATED_H = "val_ausuc", "val_calibrated_harmonic_mean"

CALIBRATION = "val_calibration"
"""The metric that records the constant behind an epoch's calibrated H."""


@dataclass(frozen=True)
class Objective:
    """What decides between configurations.

    A trial's value at an epoch is the mean of ``metric`` over its executions, averaged over the
    last ``window`` epochs. Its score is the best of that curve, and that epoch is the
    configuration's number of epochs. Patience, scheduler, confirmation and selection use it; the
    sampler is given ``values``.
    """

    name: str
    metric: str  # the name under which it is recorded for each epoch
    symbol: str  # what tables and lines call it
    summary: str
    # the metrics that ``metric`` is the mean of, where a sampler maximises each of them
    parts: tuple[str, ...] = ()
    window: int = 3  # how many epochs are averaged, so that the best is less often just lucky

    @property
    def value(self) -> str:
        """Return the name under which a trial's value at an epoch is recorded."""
        return self.metric if self.window == 1 else f"{self.metric}_smoothed"

    @property
    def values(self) -> tuple[str, ...]:
        """Return the metrics that a sampler maximises."""
        return self.parts or (self.value,)

    @property
    def has_several(self) -> bool:
        return bool(self.parts)

    @property
    def execution_prefix(self) -> str:
        """Return the name of the metric of one execution, up to the execution's number."""
        return f"{self.metric}_execution_"

    def with_metric(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Return recorded figures including ``metric``, for the mean and for each execution.

        Only that of ``both`` must be computed: (H + T1) / 2. It is linear, so its mean over the
        executions equals its value for the means.
        """
        if not self.has_several:
            return dict(figures)
        own = {
            name.replace(_H, _BOTH): (value + figures[name.replace(_H, _T1)]) / 2
            for name, value in figures.items()
            if re.fullmatch(rf"{_H}(_execution_\d+)?", name)
        }
        return {**figures, **own}

    def with_value(
        self, figures: Mapping[str, float], earlier: Sequence[Mapping[str, float]]
    ) -> dict[str, float]:
        """Return an epoch's figures including ``metric`` and ``value``.

        ``earlier`` is what this method returned for the trial's earlier epochs, in order.
        """
        whole = self.with_metric(figures)
        window = [*earlier, whole][-self.window :]
        whole[self.value] = statistics.fmean(epoch[self.metric] for epoch in window)
        return whole


OBJECTIVES: Mapping[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective("ausuc", _AUSUC, "AUSUC", "area under the seen-unseen curve"),
        Objective(
            "calibrated",
            _CALIBRATED_H,
            "calibrated H",
            "H with the best constant subtracted from seen classes' scores",
        ),
        Objective("harmonic_mean", _H, "H", "H, exactly as in the paper", window=1),
        Objective("zsl_accuracy", _T1, "T1", "T1, the accuracy of plain ZSL"),
        Objective("both", _BOTH, "(H+T1)/2", "H and T1: the Pareto front", parts=(_H, _T1)),
    )
}
"""Objectives: name → what is maximised."""

DEFAULT_OBJECTIVE = "ausuc"
"""What tells configurations apart best on validation draws; see docs/search-benchmark.md."""
