"""The paper's validation of a configuration: several executions and their mean curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mianet.config import Settings
from mianet.data.search_data import SearchData
from mianet.evaluation import Outcome, Summary, score, summarise
from mianet.protocol import validation_tasks
from mianet.training import begin_trainings, train


@dataclass(frozen=True)
class ValidationEpoch(Summary):
    """A configuration's figures after an epoch of each execution.

    The calibration is the constant that maximises the executions' mean H at this epoch.
    """

    number: int  # 1-based
    losses: Mapping[str, float]  # name → mean over executions and steps


class Validation:
    """All executions of a configuration, trained and scored epoch by epoch.

    Every configuration gets the same draws and the same seeds (common random numbers). It can be
    paused after any epoch and resumed.

    Args:
        data: What a search may see.
        settings: The configuration.
        executions: How many draws of pseudo-unseen classes.
        seed: Seed of the draws and their trainings.
        first: Number of the first draw.
        device: Where to train.
    """

    def __init__(
        self,
        data: SearchData,
        settings: Settings,
        *,
        executions: int = 5,
        seed: int = 0,
        first: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._tasks = validation_tasks(
            data, executions=executions, seed=seed, device=torch.device(device), first=first
        )
        seeds = [execution_seed(seed, first + execution) for execution in range(executions)]
        self._trainings = begin_trainings(self._tasks, settings, seeds=seeds)

    def epoch(self) -> ValidationEpoch:
        """Train each execution one more epoch and score it; see ``Trainings.epoch``."""
        epochs = self._trainings.epoch()
        summary = summarise(
            [score(*each).outcome for each in zip(epochs, self._tasks, strict=True)]
        )
        losses = {
            name: sum(epoch.losses[name] for epoch in epochs) / len(epochs)
            for name in epochs[0].losses
        }
        return ValidationEpoch(**vars(summary), number=epochs[0].number, losses=losses)

    def state(self) -> list[dict[str, Any]]:
        """Return what the next epoch depends on, one entry per execution; see ``Trainings``."""
        return self._trainings.state()

    def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Resume, bit for bit, from what ``state`` of an identical validation returned."""
        self._trainings.restore(state)


def score_execution(
    data: SearchData,
    settings: Settings,
    *,
    epochs: int,
    execution: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Outcome:
    """Train one execution for a number of epochs; return its final outcome, on the CPU.

    For draws that were not used to choose the configuration; a draw is the same as that of
    ``Validation`` with the same number.

    Args:
        data: What a search may see.
        settings: The configuration.
        epochs: How long to train.
        execution: Number of the draw, 0-based.
        seed: Seed of the study.
        device: Where to train.

    Raises:
        DivergedError: Training produced NaN or infinity.
    """
    (task,) = validation_tasks(
        data, executions=1, seed=seed, device=torch.device(device), first=execution
    )
    *_, last = train(task, settings, epochs=epochs, seed=execution_seed(seed, execution))
    return score(last, task).outcome.cpu()


def execution_seed(seed: int, execution: int) -> int:
    """Return the training seed of an execution, which differs from its draw's seed."""
    return int(np.random.SeedSequence([seed, execution, 1]).generate_state(1)[0])
