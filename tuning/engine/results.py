"""What a worker is given and what it reports after an epoch: keys of Ray Tune's dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuning.events.event import EpochDone

# What a worker is given.
NUMBER = "number"  # of the trial in the study
CONFIGURATION = "hyperparameters"  # the searched hyperparameters
WHOLE_GPU = "whole_gpu"  # true if the trial gets a whole GPU, since its share was too small

# What it reports after an epoch.
EPOCH = "epoch"  # finished epochs, from 1; Ray's own count restarts with each process
SCORE = "score"  # the best of the trial's curve so far, see ``objectives``
BEST_EPOCH = "best_epoch"  # the epoch of that best score, from 1
METRICS = "metrics"
"""Pairs of name and value: all that is recorded of the epoch. Not a mapping, for which Ray Tune
would keep averages of each figure for each trial, 100 kB of them."""
KEPT_BYTES = "kept_bytes"  # what the worker's process kept of the trials before this one
INFEASIBLE = "infeasible"  # why the configuration diverged
BROKEN = "broken"  # the error that ends the trial
TOO_LARGE = "too_large"  # why the trial exceeds its share of a GPU; it is retried with a whole one


def as_event(trial: Any, result: Mapping[str, Any]) -> EpochDone:
    """Return as an event what the worker of a Ray Tune trial reported for an epoch."""
    return EpochDone(
        trial.config[NUMBER],
        int(result[EPOCH]),
        float(result[SCORE]),
        int(result[BEST_EPOCH]),
        dict(result[METRICS]),
    )
