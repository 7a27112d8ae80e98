"""What a study cost: device time by what it was spent on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tuning.spec.records import CONFIRMATION, Work

_TITLES = {"trial": "search", CONFIRMATION: "confirmation", "final": "final training"}
_HOUR = 3600.0


@dataclass(frozen=True)
class Cost:
    """Device time of some runs."""

    title: str  # what it was spent on
    runs: int  # how many
    unknown: int  # how many of them have no recorded time; they are not counted
    hours: float  # of their executions, added up
    gpu_hours: float  # those times the GPUs that each had; a fraction of a GPU counts as such
    core_hours: float  # those times the CPU cores that each had


def costs(work: Sequence[Work]) -> list[Cost]:
    """Return the cost of each part of a study, then the total."""
    parts = [
        _cost(title, [one for one in work if one.kind == kind]) for kind, title in _TITLES.items()
    ]
    return [*(part for part in parts if part.runs), _cost("total", work)]


def _cost(title: str, work: Sequence[Work]) -> Cost:
    known = [one for one in work if math.isfinite(one.seconds)]
    return Cost(
        title=title,
        runs=len(work),
        unknown=len(work) - len(known),
        hours=sum(one.seconds for one in known) / _HOUR,
        gpu_hours=sum(one.seconds * one.gpus for one in known) / _HOUR,
        core_hours=sum(one.seconds * one.cpus for one in known) / _HOUR,
    )
