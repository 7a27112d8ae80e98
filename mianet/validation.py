"""The paper's validation of a configuration: several executions and their mean curve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from mianet.config import Hyperparameters
from mianet.data import SearchData
from mianet.evaluation import Metrics, evaluate, mean_metrics
from mianet.protocol import Task, validation_tasks
from mianet.training import Epoch, train


@dataclass(frozen=True)
class ValidationEpoch:
    """Where a configuration stands after an epoch of each execution.

    Attributes:
        number: 1-based.
        mean: The mean over the executions; its ``harmonic_mean`` is the trial's value.
        executions: The figures of each execution.
        losses: Name → mean over executions and steps.
    """

    number: int
    mean: Metrics
    executions: tuple[Metrics, ...]
    losses: Mapping[str, float]


def validate(
    data: SearchData,
    settings: Hyperparameters,
    *,
    epochs: int,
    executions: int = 5,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[ValidationEpoch]:
    """Train and score all executions of a configuration, epoch by epoch.

    Every configuration meets the same draws and the same seeds (common random numbers).

    Raises:
        DivergedError: An execution left the finite numbers.
    """
    tasks = validation_tasks(data, executions=executions, seed=seed, device=torch.device(device))
    trainings = [
        train(task, settings, epochs=epochs, seed=execution_seed(seed, execution))
        for execution, task in enumerate(tasks)
    ]
    for epoch_of_each in zip(*trainings, strict=True):
        yield _summarise(tasks, epoch_of_each)


def execution_seed(seed: int, execution: int) -> int:
    """Return the training seed of an execution, apart from that of its draw."""
    return int(np.random.SeedSequence([seed, execution, 1]).generate_state(1)[0])


def _summarise(tasks: list[Task], epochs: tuple[Epoch, ...]) -> ValidationEpoch:
    metrics = tuple(
        evaluate(epoch.model, epoch.scaler, task) for task, epoch in zip(tasks, epochs, strict=True)
    )
    losses = {
        name: sum(epoch.losses[name] for epoch in epochs) / len(epochs) for name in epochs[0].losses
    }
    return ValidationEpoch(epochs[0].number, mean_metrics(metrics), metrics, losses)
