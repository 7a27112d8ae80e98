"""How reference models train: at once or by epochs, and taken up again by repeating it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from mianet.inference.prediction import Scorer
from mianet.protocol import Task
from mianet.scaling import FeatureScaler
from mianet.training import Begin, Epoch

Fitted = tuple[Scorer, Mapping[str, float]]
"""A trained model, and the losses that it reaches."""

Fit = Callable[[Task, FeatureScaler, Any], Fitted]
"""Fits a model at once, by its own settings; nothing in it is random.

Raises:
    DivergedError: The solution is not finite.
"""

Train = Callable[..., Iterator[Epoch[Scorer]]]
"""Trains a model: ``train(task, settings, seed=seed)`` yields after each epoch."""


class Repeated:
    """A training that keeps nothing but how far it is, for models that train in seconds.

    The same task, settings, seed and device give the same epochs, so those that are done are
    trained again.

    Args:
        train: How the model is trained.
        task: The images and classes.
        settings: The model's hyperparameters.
        seed: Of the training.
    """

    def __init__(self, train: Train, task: Task, settings: Any, *, seed: int) -> None:
        self._train = train(task, settings, seed=seed)
        self._epochs = 0

    def epoch(self) -> Epoch[Scorer]:
        """Train one more epoch.

        Raises:
            DivergedError: The training left the finite numbers.
            IndexError: There is no further epoch: the model is a closed form.
        """
        for epoch in self._train:
            self._epochs += 1
            return epoch
        raise IndexError(f"the training has no epoch after {self._epochs}")

    def state(self) -> dict[str, Any]:
        """Return how many epochs are done."""
        return {"epochs": self._epochs}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Train as many epochs as ``state`` of an equal training had done."""
        for _ in range(int(state["epochs"])):
            self.epoch()


def train_at_once(fit: Fit, task: Task, settings: Any, *, seed: int) -> Iterator[Epoch[Scorer]]:
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


def closed_form(fit: Fit) -> Begin:
    """Return how the training of a model begins that is fitted at once."""
    return partial(Repeated, partial(train_at_once, fit))
