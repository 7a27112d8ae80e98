"""Training MIANet: one visible loop, a result per epoch, no knowledge of who listens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from mianet.config import Hyperparameters
from mianet.errors import DivergedError
from mianet.model import MIANet, build_model
from mianet.protocol import Task
from mianet.scaling import FeatureScaler
from mianet.steps import LOSSES, Batch, Stepper


@dataclass(frozen=True)
class Epoch:
    """What training yields after each epoch.

    Attributes:
        number: 1-based.
        losses: Name → mean over the epoch's steps, unweighted.
        model: The model as it is now; training goes on with the same object.
        scaler: The feature scaling in front of the model.
    """

    number: int
    losses: Mapping[str, float]
    model: MIANet
    scaler: FeatureScaler


def train(task: Task, settings: Hyperparameters, *, epochs: int, seed: int) -> Iterator[Epoch]:
    """Train on the task's training images, yielding after each epoch.

    The caller stops early by not asking for the next epoch. The same task, settings, seed and
    device give the same epochs; every random number is drawn from generators of the training's
    own. Only the task's ``train`` part is read.

    Raises:
        DivergedError: A loss of the epoch is NaN or infinite.
    """
    weights_seed, batches_seed = (int(s) for s in np.random.SeedSequence(seed).generate_state(2))
    features = task.train.features
    scaler = FeatureScaler.fit(settings.feature_scaling, features, task.train.rows)
    model = build_model(
        settings,
        feature_dim=features.shape[1],
        attribute_dim=task.class_attributes.shape[1],
        classes=len(task.class_attributes),
        seed=weights_seed,
    ).to(features.device)
    stepper = Stepper(model, settings, task)
    generator = torch.Generator(features.device).manual_seed(batches_seed)
    for number in range(1, epochs + 1):
        total = torch.zeros(len(LOSSES), device=features.device)
        steps = 0
        for batch in batches(task, scaler, settings.batch_images, generator):
            total += stepper.step(batch)
            steps += 1
        losses = dict(zip(LOSSES, (total / steps).tolist(), strict=True))
        _check_finite(losses, number)
        yield Epoch(number, losses, model, scaler)


def batches(
    task: Task, scaler: FeatureScaler, batch_images: int, generator: torch.Generator
) -> Iterator[Batch]:
    """Yield an epoch of balanced pairs: every training image once, in random order (section 4.2).

    Each image is paired with its own class and with one other seen class, drawn uniformly. The
    last batch is smaller where the images do not divide evenly.
    """
    rows, classes, seen = task.train.rows, _positions(task), len(task.seen_classes)
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


def _positions(task: Task) -> Int64[Tensor, " images"]:
    """Return the class of each training image as a position among the seen classes."""
    return torch.searchsorted(task.seen_classes, task.train.labels[task.train.rows])


def _check_finite(losses: Mapping[str, float], epoch: int) -> None:
    broken = [name for name, value in losses.items() if not math.isfinite(value)]
    if broken:
        raise DivergedError(f"the {' and '.join(broken)} loss is not finite after epoch {epoch}")
