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
    last ``window`` epochs. Its score is the best of that curve, at what is its best epoch.
    Patience, scheduler, confirmation and selection use it; the sampler is given ``values``.
    """

    name: str
    metric: str  # the name under which it is recorded for each epoch
    symbol: str  # what tables and lines call it
    summary: str
    # the metrics that ``metric`` is the mean of, where a sampler maximises each of them
    parts: tuple[str, ...] = ()
    # chosen and trained as in the paper: the best single epoch decides, in the final training too
    is_published: bool = False

    @property
    def window(self) -> int:
        """Return how many epochs are averaged, so that the best is less often just lucky."""
        return 1 if self.is_published else 3

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

    def final_epochs(self, curve: Sequence[float], share: float) -> int:
        """Return for how many epochs to train on all of trainval, given a trial's curve.

        An epoch there has more images, and so more steps, than one of an execution. What ``e``
        epochs are worth is somewhere on the curve between as many epochs and as many steps; the
        ``e`` with the highest mean over that range is taken. It is at most the best epoch, and has
        at least as many steps as that. See docs/search-benchmark.md.

        Args:
            curve: The trial's value at each of its epochs.
            share: Share of trainval's images that an execution trains on.
        """
        best = 1 + max(range(len(curve)), key=curve.__getitem__)
        if self.is_published:
            return best

        def worth(epochs: int) -> float:
            return statistics.fmean(curve[epochs - 1 : round(epochs / share)])

        return max(range(max(1, round(share * best)), best + 1), key=worth)


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
        Objective("harmonic_mean", _H, "H", "H, exactly as in the paper", is_published=True),
        Objective("zsl_accuracy", _T1, "T1", "T1, the accuracy of plain ZSL"),
        Objective("both", _BOTH, "(H+T1)/2", "H and T1: the Pareto front", parts=(_H, _T1)),
    )
}
"""Objectives: name → what is maximised."""

DEFAULT_OBJECTIVE = "ausuc"
"""What tells configurations apart best on validation draws; see docs/search-benchmark.md."""
