"""What a worker is handed and what it reports after an epoch: keys of Ray Tune's dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuning.events.event import EpochDone

SCORE = "score"
"""The best of a trial's curve so far, see ``objectives``."""
BEST_EPOCH = "best_epoch"
"""The epoch of that best, from 1."""
EPOCH = "epoch"
"""Epochs finished, from 1. Ray's own count begins again with each process."""
METRICS = "metrics"
"""Pairs of name and value, all that is recorded of the epoch. Not a mapping: Ray Tune would keep
averages of each figure for each trial, 100 kB of them."""
INFEASIBLE = "infeasible"
"""Why the configuration diverged."""
BROKEN = "broken"
"""The error that ends the trial."""
TOO_LARGE = "too_large"
"""Why the trial does not fit its share of a GPU; it is tried again with a whole one."""

NUMBER = "number"
"""Handed to a worker: the trial's number in the study."""
CONFIGURATION = "hyperparameters"
"""Handed to a worker: the searched hyperparameters."""
WHOLE_GPU = "whole_gpu"
"""Handed to a worker: true where the trial has a GPU for itself, since its share was too small."""


def as_event(trial: Any, result: Mapping[str, Any]) -> EpochDone:
    """Return what a worker reported of an epoch as an event of the study.

    Args:
        trial: Ray Tune's trial.
        result: What it reported, by the names above.
    """
    return EpochDone(
        trial.config[NUMBER],
        int(result[EPOCH]),
        float(result[SCORE]),
        int(result[BEST_EPOCH]),
        dict(result[METRICS]),
    )
