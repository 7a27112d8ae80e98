"""What a search maximises: H, T1, or both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_H, _T1, _BOTH = "val_harmonic_mean", "val_zsl_accuracy", "val_both"


@dataclass(frozen=True)
class Objective:
    """What decides between configurations.

    A trial's value at an epoch is the mean of ``metric`` over its executions, its score is the best
    of that curve, and that epoch is the configuration's number of epochs. Patience, scheduler,
    confirmation and selection go by it; the sampler is told ``values``.

    Attributes:
        name: As it is asked for and recorded.
        metric: The metric, as it is recorded by epoch.
        symbol: What tables and lines call it.
        values: The metrics that a sampler maximises: several where there are several objectives.
        summary: One line for a person.
    """

    name: str
    metric: str
    symbol: str
    values: tuple[str, ...]
    summary: str

    @property
    def has_several(self) -> bool:
        """Say whether a sampler maximises several values at once."""
        return len(self.values) > 1

    @property
    def execution_prefix(self) -> str:
        """Return what the metric of one execution is called, before the execution's number."""
        return f"{self.metric}_execution_"

    def completed(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Return recorded figures with this metric among them, of the mean and of each execution.

        Only ``both`` has to be made: (H + T1) / 2. It is linear, so the mean over executions of
        theirs is that of the means.
        """
        if not self.has_several:
            return dict(figures)
        own = {
            name.replace(_H, _BOTH): (value + figures[name.replace(_H, _T1)]) / 2
            for name, value in figures.items()
            if re.fullmatch(rf"{_H}(_execution_\d+)?", name)
        }
        return {**figures, **own}


OBJECTIVES: Mapping[str, Objective] = MappingProxyType(
    {
        objective.name: objective
        for objective in (
            Objective("harmonic_mean", _H, "H", (_H,), "H, as in the paper"),
            Objective("zsl_accuracy", _T1, "T1", (_T1,), "T1, the accuracy of plain ZSL"),
            Objective("both", _BOTH, "(H+T1)/2", (_H, _T1), "H and T1: the Pareto front"),
        )
    }
)
"""Objectives: name → what is maximised."""

DEFAULT_OBJECTIVE = "harmonic_mean"
"""The paper's; also that of studies which were recorded before there was a choice."""
