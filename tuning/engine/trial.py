"""What a worker does with a configuration: the paper's validation, reported epoch by epoch."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from ray import tune

from mianet.config import Settings
from mianet.data.search_data import SearchData
from mianet.errors import DivergedError
from mianet.processor import release_memory, use_threads
from mianet.validation import Validation, ValidationEpoch
from tuning.compute.cluster import Share
from tuning.compute.gpu_limit import exceeded, limit_to_share
from tuning.engine import results
from tuning.engine.checkpoints import CheckpointFile
from tuning.engine.study import Study
from tuning.spec.objectives import CALIBRATION

_logger = logging.getLogger(__name__)

os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # keep relative paths as the user meant them


@dataclass(frozen=True)
class Plan:
    """What all trials of a study share."""

    study: Study
    settings: Settings  # of every trial, except for what is searched
    share: Share
    checkpoints: Path  # folder of the running trials' states


def objective(config: dict[str, Any], data: SearchData, plan: Plan) -> None:
    """Validate one configuration: a Ray Tune trainable that reports after each epoch.

    With a checkpoint, it first reports the epochs in it; the receiver ignores those it already has.
    A configuration that diverges reports the lowest possible score and ends. An error in the code
    reports its reason, since it would recur; so does a trial that needs more of a GPU than its
    share, to get a whole one. If the process is killed, or other processes have taken the memory,
    the trial is retried unchanged.

    Args:
        config: The configuration and the trial's number, as Ray Tune passes them.
        data: What a search may see.
        plan: What all trials of the study share.
    """
    use_threads(plan.share.threads)
    kept_bytes = release_memory() - _bytes_before_trials()
    gpus = 1.0 if config.get(results.WHOLE_GPU) else plan.share.gpus
    limit_to_share(gpus)
    value, score, best_epoch, number = plan.study.goal.value, -1.0, 0, 0
    try:
        for number, metrics in enumerate(curve(config, data, plan), 1):
            if metrics[value] > score:
                score, best_epoch = metrics[value], number
            what = {results.METRICS: list(metrics.items()), results.KEPT_BYTES: kept_bytes}
            _report(number, score, best_epoch, what)
    except DivergedError as error:
        _report(number + 1, 0.0, 0, {results.INFEASIBLE: str(error)})
    except MemoryError:
        raise
    except torch.OutOfMemoryError:
        if reason := exceeded(gpus):
            kind = results.TOO_LARGE if gpus < 1 else results.BROKEN
            _report(number + 1, 0.0, 0, {kind: reason})
        raise  # end the process, since its device may be in any state
    except Exception as error:
        reason = " ".join("".join(traceback.format_exception_only(error)).split())
        _report(number + 1, 0.0, 0, {results.BROKEN: reason})
        raise


def _report(epoch: int, score: float, best_epoch: int, what: dict[str, Any]) -> None:
    known = {results.EPOCH: epoch, results.SCORE: score, results.BEST_EPOCH: best_epoch}
    tune.report({**known, **what})


@cache
def _bytes_before_trials() -> int:
    """Return the memory of this process when it began its first trial."""
    return release_memory()


def curve(config: dict[str, Any], data: SearchData, plan: Plan) -> Iterator[dict[str, float]]:
    """Yield what is reported for each epoch: those of the checkpoint, then new ones.

    Args:
        config: The configuration and the trial's number.
        data: What a search may see.
        plan: What all trials of the study share.

    Raises:
        DivergedError: An execution produced NaN or infinity, or its latents are all zero.
    """
    study, device = plan.study, plan.share.device
    settings = plan.settings.replace(**config[results.CONFIGURATION])
    identity = {
        "settings": settings.as_dict(),
        "executions": study.executions,
        "seed": study.seed,
        "data": data.digest,
        "objective": study.objective,
        "device": device,  # each kind has random numbers of its own
    }
    file = CheckpointFile(plan.checkpoints, config[results.NUMBER], identity)
    validation = Validation(
        data,
        settings,
        executions=study.executions,
        seed=study.seed,
        device=device,
    )
    done: list[dict[str, float]] = []
    if saved := file.load():
        done, state = saved
        validation.restore(state)
        yield from done
    while len(done) < study.max_epochs:
        done.append(study.goal.with_value(reported(validation.epoch()), done))
        try:
            file.save_if_due(done, validation.state())
        except OSError as error:
            _logger.warning("cannot write a checkpoint; the trial continues without it: %s", error)
        yield done[-1]


def reported(epoch: ValidationEpoch) -> dict[str, float]:
    """Return the figures of an epoch under their recorded names."""
    metrics = epoch.mean.as_dict("val_") | {CALIBRATION: epoch.calibration}
    for execution, of_execution in enumerate(epoch.executions):
        for name, value in of_execution.as_dict("val_").items():
            metrics[f"{name}_execution_{execution}"] = value
    return metrics | {f"loss_{name}": value for name, value in epoch.losses.items()}
