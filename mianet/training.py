"""Training: one visible loop, a result per epoch, no knowledge of who listens.

What every model's training can do, and MIANet's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from mianet.config import Hyperparameters
from mianet.errors import DivergedError
from mianet.model import MIANet, build_model
from mianet.prediction import Scorer
from mianet.protocol import Task
from mianet.scaling import FeatureScaler
from mianet.steps import LOSSES, Batch, Stepper

_IMAGES_AT_ONCE = 256

ScorerT = TypeVar("ScorerT", bound=Scorer, covariant=True)


@dataclass(frozen=True)
class Epoch(Generic[ScorerT]):
    """What training yields after each epoch.

    Attributes:
        number: 1-based.
        losses: Name → mean over the epoch's steps, unweighted.
        model: The model as it is now; training goes on with the same object.
        scaler: The feature scaling in front of the model.
    """

    number: int
    losses: Mapping[str, float]
    model: ScorerT
    scaler: FeatureScaler


@runtime_checkable
class Resumable(Protocol[ScorerT]):
    """A training of any model, which can be set down after an epoch and taken up again."""

    def epoch(self) -> Epoch[ScorerT]:
        """Train one more epoch.

        Raises:
            DivergedError: The training left the finite numbers.
        """

    def state(self) -> dict[str, Any]:
        """Return plain containers, numbers and tensors that the next epoch depends on."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` of an equal training returned, bit for bit."""


@runtime_checkable
class Begin(Protocol):
    """How a model's training is begun: ``Training``, or that of a reference model."""

    def __call__(self, task: Task, settings: Any, *, seed: int) -> Resumable[Scorer]:
        """Return the training before its first epoch; ``settings`` are the model's own."""


class Training:
    """MIANet's training, which can be set down after an epoch and taken up again.

    The same task, settings, seed and device give the same epochs; every random number is drawn
    from generators of the training's own. Only the task's ``train`` part is read.
    """

    def __init__(self, task: Task, settings: Hyperparameters, *, seed: int) -> None:
        weights, batches = (int(s) for s in np.random.SeedSequence(seed).generate_state(2))
        features = task.train.features
        self._task = task
        self._batch_images = settings.batch_images
        self._scaler = FeatureScaler.fit(settings.feature_scaling, features, task.train.rows)
        model = build_model(
            settings,
            feature_dim=features.shape[1],
            attribute_dim=task.class_attributes.shape[1],
            classes=len(task.class_attributes),
            seed=weights,
        ).to(features.device)
        self._stepper = Stepper(model, settings, task)
        self._generator = torch.Generator(features.device).manual_seed(batches)
        self._epochs = 0

    def epoch(self) -> Epoch[MIANet]:
        """Train one more epoch.

        Raises:
            DivergedError: A loss of the epoch is NaN or infinite, or the latents are all zero.
        """
        self._epochs += 1
        total = torch.zeros(len(LOSSES), device=self._generator.device)
        steps = 0
        for batch in batches(self._task, self._scaler, self._batch_images, self._generator):
            total += self._stepper.step(batch)
            steps += 1
        losses = dict(zip(LOSSES, (total / steps).tolist(), strict=True))
        _check_finite(losses, self._epochs)
        _check_alive(self._stepper.model, self._scaler, self._task, self._epochs)
        return Epoch(self._epochs, losses, self._stepper.model, self._scaler)

    def state(self) -> dict[str, Any]:
        """Return what the next epoch depends on beside the constructor's arguments.

        Plain containers, numbers and tensors; the tensors are those in use, not copies.
        """
        return {
            "epochs": self._epochs,
            "generator": self._generator.get_state(),
            **self._stepper.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` of an equal training returned, bit for bit."""
        self._epochs = int(state["epochs"])
        self._generator.set_state(state["generator"])
        self._stepper.restore(state)


def train(
    task: Task, settings: Hyperparameters, *, epochs: int, seed: int
) -> Iterator[Epoch[MIANet]]:
    """Train MIANet from the beginning, yielding after each epoch; see ``Training``.

    Raises:
        DivergedError: A loss of an epoch is NaN or infinite, or the latents are all zero.
    """
    return run(Training(task, settings, seed=seed), epochs)


def run(training: Resumable[ScorerT], epochs: int) -> Iterator[Epoch[ScorerT]]:
    """Train, yielding after each epoch.

    The caller stops early by not asking for the next epoch.

    Raises:
        DivergedError: The training left the finite numbers.
    """
    for _ in range(epochs):
        yield training.epoch()


def batches(
    task: Task, scaler: FeatureScaler, batch_images: int, generator: torch.Generator
) -> Iterator[Batch]:
    """Yield an epoch of balanced pairs: every training image once, in random order (section 4.2).

    Each image is paired with its own class and with one other seen class, drawn uniformly. The
    last batch is smaller where the images do not divide evenly.
    """
    rows, classes, seen = task.train.rows, class_positions(task), len(task.seen_classes)
    device = rows.device
    order = torch.randperm(len(rows), generator=generator, device=device)
    # Drawn among the other seen - 1 classes, then moved past the image's own.
    other = torch.randint(seen - 1, (len(rows),), generator=generator, device=device)
    other += other >= classes
    for chosen in order.split(batch_images):
        yield Batch(
            features=scaler(task.train.features.index_select(0, rows[chosen])),
            classes=classes[chosen],
            other_classes=other[chosen],
        )


def class_positions(task: Task) -> Int64[Tensor, " images"]:
    """Return the class of each training image as a position among the seen classes."""
    return torch.searchsorted(task.seen_classes, task.train.labels[task.train.rows])


def _check_finite(losses: Mapping[str, float], epoch: int) -> None:
    broken = [name for name, value in losses.items() if not math.isfinite(value)]
    if broken:
        raise DivergedError(f"the {' and '.join(broken)} loss is not finite after epoch {epoch}")


@torch.no_grad()
def _check_alive(model: MIANet, scaler: FeatureScaler, task: Task, epoch: int) -> None:
    """Check that some latent of each modality is not zero: behind ReLU, all zero stays all zero.

    A model that lives is known by its first images.
    """
    semantic = model.embed_attributes(task.class_attributes)
    visual = (
        model.embed_features(scaler(task.train.features.index_select(0, rows)))
        for rows in task.train.rows.split(_IMAGES_AT_ONCE)
    )
    for name, alive in (("semantic", semantic.any()), ("visual", any(v.any() for v in visual))):
        if not alive:
            raise DivergedError(f"all {name} latents are zero after epoch {epoch}")
