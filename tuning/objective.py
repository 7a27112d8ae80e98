"""What a worker does with a configuration: the paper's validation, reported epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from ray import tune

from mianet.config import Hyperparameters
from mianet.data import SearchData
from mianet.errors import DivergedError
from mianet.validation import ValidationEpoch, validate
from tuning.algorithms import BEST_EPOCH, SCORE


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all trials of a study share.

    Attributes:
        epochs: Most epochs of a trial.
        executions: Draws that a configuration is averaged over.
        seed: Seed of the draws and of their trainings.
        settings: Hyperparameters that are not searched, as they are in every trial.
        threads: CPU threads of a worker.
        device: ``"cpu"`` or ``"cuda"``.
    """

    epochs: int
    executions: int
    seed: int
    settings: Hyperparameters
    threads: int
    device: str


def objective(config: dict[str, Any], data: SearchData, plan: Plan) -> None:
    """Validate one configuration: a Ray Tune trainable that reports after each epoch.

    A configuration that diverges is infeasible: it reports the lowest score there is and ends, so
    that the sampler learns of it and nothing is tried again.
    """
    torch.set_num_threads(plan.threads)
    score, best_epoch = -1.0, 0
    try:
        for epoch in validate(
            data,
            plan.settings.replace(**config),
            epochs=plan.epochs,
            executions=plan.executions,
            seed=plan.seed,
            device=plan.device,
        ):
            if epoch.mean.harmonic_mean > score:
                score, best_epoch = epoch.mean.harmonic_mean, epoch.number
            tune.report({SCORE: score, BEST_EPOCH: best_epoch, **reported(epoch)})
    except DivergedError as error:
        tune.report({SCORE: 0.0, BEST_EPOCH: 0, "infeasible": str(error)})


def reported(epoch: ValidationEpoch) -> dict[str, float]:
    """Return the figures of an epoch under the names that are recorded."""
    metrics = epoch.mean.as_dict("val_")
    for execution, of_execution in enumerate(epoch.executions):
        for name, value in of_execution.as_dict("val_").items():
            metrics[f"{name}_execution_{execution}"] = value
    return metrics | {f"loss_{name}": value for name, value in epoch.losses.items()}
