"""What a worker is handed and what it reports after an epoch: keys of Ray Tune's dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuning.events.event import EpochDone

# What a worker is handed.
NUMBER = "number"  # of the trial in the study
CONFIGURATION = "hyperparameters"  # those that are searched
WHOLE_GPU = "whole_gpu"  # true where the trial has a GPU for itself, since its share was too small

# What it reports after an epoch.
EPOCH = "epoch"  # finished ones, from 1; Ray's own count begins again with each process
SCORE = "score"  # the best of the trial's curve so far, see ``objectives``
BEST_EPOCH = "best_epoch"  # of that best, from 1
METRICS = "metrics"
"""Pairs of name and value, all that is recorded of the epoch. Not a mapping: Ray Tune would keep
averages of each figure for each trial, 100 kB of them."""
INFEASIBLE = "infeasible"  # why the configuration diverged
BROKEN = "broken"  # the error that ends the trial
TOO_LARGE = "too_large"  # for its share of a GPU, and why; it is tried again with a whole one


def as_event(trial: Any, result: Mapping[str, Any]) -> EpochDone:
    """Return what a worker of a trial of Ray Tune reported of an epoch as an event."""
    return EpochDone(
        trial.config[NUMBER],
        int(result[EPOCH]),
        float(result[SCORE]),
        int(result[BEST_EPOCH]),
        dict(result[METRICS]),
    )
