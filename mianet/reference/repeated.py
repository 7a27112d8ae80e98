"""How reference models train: at once or by epochs, and resumed by repeating the training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from mianet.inference.prediction import Scorer
from mianet.protocol import Task
from mianet.scaling import FeatureScaler
from mianet.training import Epoch

Fitted = tuple[Scorer, Mapping[str, float]]
"""A trained model, and its final losses."""

Fit = Callable[[Task, FeatureScaler, Any], Fitted]
"""Fits a model in closed form with its own settings; deterministic. A solution that is not finite
raises a DivergedError."""

Train = Callable[..., Iterator[Epoch]]
"""Trains a model: ``train(task, settings, seed=seed)`` yields after each epoch."""


class Repeated:
    """Trainings that save only their progress, for models that train in seconds.

    The same task, settings, seed and device give the same epochs, so resuming repeats the epochs
    already done.

    Args:
        train: How the model is trained.
        tasks: The executions.
        settings: The model's hyperparameters.
        seeds: A seed for each execution.
    """

    def __init__(
        self, train: Train, tasks: Sequence[Task], settings: Any, *, seeds: Sequence[int]
    ) -> None:
        self._running = [
            train(task, settings, seed=seed) for task, seed in zip(tasks, seeds, strict=True)
        ]
        self._epochs = 0

    def epoch(self) -> list[Epoch]:
        """Train each one more epoch.

        Raises:
            DivergedError: A training produced NaN or infinity.
            IndexError: There is no further epoch: the model is a closed form.
        """
        try:
            epochs = [next(running) for running in self._running]
        except StopIteration:
            raise IndexError(f"the training has no epoch after {self._epochs}") from None
        self._epochs += 1
        return epochs

    def state(self) -> list[dict[str, Any]]:
        return [{"epochs": self._epochs} for _ in self._running]

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Train the number of epochs recorded by ``state`` of identical trainings."""
        for _ in range(int(states[0]["epochs"])):
            self.epoch()


def train_at_once(fit: Fit, task: Task, settings: Any, *, seed: int) -> Iterator[Epoch]:
    """Yield a fitted model as the only epoch.

    Args:
        fit: How it is fitted.
        task: The images and classes.
        settings: The model's hyperparameters.
        seed: Not used.
    """
    scaler = FeatureScaler.fit(settings.feature_scaling, task.train.features, task.train.rows)
    model, losses = fit(task, scaler, settings)
    yield Epoch(1, losses, model, scaler)


def closed_form(fit: Fit) -> Callable[..., Repeated]:
    """Return the function that starts trainings of a model fitted in closed form."""
    return partial(Repeated, partial(train_at_once, fit))
