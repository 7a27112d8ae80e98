"""A reference training, taken up again by repeating it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from mianet.inference.prediction import Scorer
from mianet.protocol import Task
from mianet.training import Epoch


@runtime_checkable
class Train(Protocol):
    """How a reference model is trained; a closed form has one epoch, the others have no end."""

    def __call__(self, task: Task, settings: Any, *, seed: int) -> Iterator[Epoch[Scorer]]:
        """Yield after each epoch; ``settings`` are the model's own."""


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
