"""Training: one visible loop, a result per epoch, independent of its callers.

Defines the interface that every model's training has, and MIANet's training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mianet.config import Hyperparameters, Settings
from mianet.errors import DivergedError
from mianet.graphs import captured
from mianet.model import MIANet, build_model
from mianet.processor import tensor_float
from mianet.protocol import Task
from mianet.scaling import FeatureScaler, scaled
from mianet.steps import LOSSES, Batch, Stepper

BATCHED_WEIGHTS = 200_000
"""Largest visual network, in weights, whose executions are batched on a CPU."""

_IMAGES_AT_ONCE = 32


@dataclass(frozen=True)
class Epoch:
    """What training yields after each epoch."""

    number: int  # 1-based
    losses: Mapping[str, float]  # name → mean over the epoch's steps, unweighted
    model: Any  # the current model, a ``Scorer``; training continues on the same object
    scaler: FeatureScaler  # the feature scaling applied before the model


@runtime_checkable
class Trainings(Protocol):
    """Trainings of some executions, which can be paused after any epoch and resumed."""

    def epoch(self) -> Sequence[Epoch]:
        """Train each one more epoch.

        Raise a DivergedError if a loss is not finite or the latents are all zero.
        """

    def state(self) -> list[dict[str, Any]]:
        """Return, for each, what its next epoch depends on: plain containers, numbers, tensors.

        The tensors are the live ones, not copies.
        """

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Resume, bit for bit, from what ``state`` of identical trainings returned."""


def begin_trainings(
    tasks: Sequence[Task], settings: Settings, *, seeds: Sequence[int]
) -> Trainings:
    """Start trainings of the model that the settings belong to.

    Args:
        tasks: The executions.
        settings: The hyperparameters.
        seeds: A seed for each execution.
    """
    begin = resolve_name(settings.trainer)
    trainings: Trainings = begin(tasks, settings, seeds=seeds)
    return trainings


class InTurn:
    """``Trainings`` of several executions, which take turns within each epoch."""

    def __init__(self, trainings: Sequence[Trainings]) -> None:
        self._trainings = trainings

    def epoch(self) -> list[Epoch]:
        return [epoch for training in self._trainings for epoch in training.epoch()]

    def state(self) -> list[dict[str, Any]]:
        return [state for training in self._trainings for state in training.state()]

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        for training, state in zip(self._trainings, states, strict=True):
            training.restore([state])


class Steps:
    """The steps of several executions, starting from the rows of their images.

    It holds no reference to whatever captures ``take``: a reference cycle would keep a training's
    GPU memory allocated after its end.

    Args:
        stepper: The models, and how they take a step.
        features: All images, as rows.
        scalers: The feature scaling of each execution.
    """

    def __init__(
        self,
        stepper: Stepper,
        features: Float[Tensor, "images features"],
        scalers: Sequence[FeatureScaler],
    ) -> None:
        self.total = torch.zeros(len(scalers), len(LOSSES), device=features.device)
        self._stepper = stepper
        self._features = features
        self._kind = scalers[0].kind
        self._shift, self._factor = (
            torch.stack([getattr(scaler, name) for scaler in scalers])[:, None]
            for name in ("shift", "factor")
        )

    def take(self, pairs: Int64[Tensor, "executions 4 images"]) -> None:
        """Take a step of the first executions (``batches``), and add its losses to ``total``."""
        active = len(pairs)
        rows, classes, other_classes, weights = pairs.unbind(1)
        images = self._features.index_select(0, rows.flatten()).unflatten(0, rows.shape)
        features = scaled(self._kind, images, self._shift[:active], self._factor[:active])
        weights = weights.float()
        if active > 1:  # a single execution has no padding rows
            features.mul_(weights[..., None])
        batch = Batch(features, classes, other_classes, weights)
        self.total[:active].add_(self._stepper.step(batch))


class Batched:
    """MIANet's ``Trainings`` of several executions, which take each step together.

    The same tasks, settings, seeds and device give the same epochs; all random numbers come from
    their own generators. Only the tasks' ``train`` parts are read. Each training equals the same
    one run alone, up to rounding: an execution with fewer images takes fewer steps, and its last
    step of an epoch has the remaining images.

    Args:
        tasks: The executions, in any order: draws from the same array of images.
        settings: Their hyperparameters.
        seeds: A seed for each execution's weights, pairs and their order.
    """

    def __init__(
        self, tasks: Sequence[Task], settings: Hyperparameters, *, seeds: Sequence[int]
    ) -> None:
        # Most images first, so that those still taking steps are always the first ones.
        order = sorted(range(len(tasks)), key=lambda e: -len(tasks[e].train.rows))
        self._places = [order.index(execution) for execution in range(len(tasks))]
        self._tasks = [tasks[e] for e in order]
        features = tasks[0].train.features
        streams = [np.random.SeedSequence(seeds[e]).generate_state(2) for e in order]
        models = [
            build_model(
                settings,
                feature_dim=features.shape[1],
                attribute_dim=task.class_attributes.shape[1],
                classes=len(task.class_attributes),
                seed=int(weights),
            ).to(features.device)
            for task, (weights, _) in zip(self._tasks, streams, strict=True)
        ]
        self._stepper = Stepper(models, settings, self._tasks)
        self._scalers = [
            FeatureScaler.fit(settings.feature_scaling, features, task.train.rows)
            for task in self._tasks
        ]
        self._steps = Steps(self._stepper, features, self._scalers)
        self._generators = [
            torch.Generator(features.device).manual_seed(int(batches)) for _, batches in streams
        ]
        self._settings = settings
        self._epochs = 0
        counts = [math.ceil(len(t.train.rows) / settings.batch_images) for t in self._tasks]
        self._counts = torch.tensor(counts, device=features.device)[:, None]
        self._device = features.device
        self._step = captured(self._steps.take, self._device)

    def epoch(self) -> list[Epoch]:
        self._epochs += 1
        self._train()
        means = self._steps.total / self._counts
        alive = [
            _alive(*each)
            for each in zip(self._stepper.models, self._scalers, self._tasks, strict=True)
        ]
        rows = torch.cat([means, torch.stack(alive)], 1).tolist()  # waits for the device
        return [self._checked(place, rows[place]) for place in self._places]

    def state(self) -> list[dict[str, Any]]:
        return [
            {
                "epochs": self._epochs,
                "generator": self._generators[place].get_state(),
                **self._stepper.state(place),
            }
            for place in self._places
        ]

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        for place, state in zip(self._places, states, strict=True):
            self._epochs = int(state["epochs"])
            self._generators[place].set_state(state["generator"])
            self._stepper.restore(place, state)
        self._step = captured(self._steps.take, self._device)  # Adam's state has moved in memory

    def _train(self) -> None:
        """Take the steps of an epoch without waiting for the device."""
        self._steps.total.zero_()
        drawn = [draw_pairs(*each) for each in zip(self._tasks, self._generators, strict=True)]
        with tensor_float(self._settings.precision == "tf32"):
            for pairs in batches(drawn, self._settings.batch_images):
                self._step(pairs)

    def _checked(self, place: int, row: Sequence[float]) -> Epoch:
        """Return an execution's epoch, given its losses and which modalities are alive."""
        *means, semantic, visual = row
        losses = dict(zip(LOSSES, means, strict=True))
        if diverged := [name for name, value in losses.items() if not math.isfinite(value)]:
            names = " and ".join(diverged)
            raise DivergedError(f"the {names} loss is not finite after epoch {self._epochs}")
        model, scaler, task = self._stepper.models[place], self._scalers[place], self._tasks[place]
        later = range(_IMAGES_AT_ONCE, len(task.train.rows), _IMAGES_AT_ONCE)
        visual = visual or any(_any_latent(model, scaler, task, start) for start in later)
        for name, is_alive in (("semantic", semantic), ("visual", visual)):
            if not is_alive:  # after a ReLU, all-zero latents stay zero
                raise DivergedError(f"all {name} latents are zero after epoch {self._epochs}")
        return Epoch(self._epochs, losses, model, scaler)


def begin_mianet(
    tasks: Sequence[Task], settings: Hyperparameters, *, seeds: Sequence[int]
) -> Trainings:
    """Return MIANet's trainings of some executions, batched where that is faster.

    On small products a GPU waits more than it computes. On a CPU, one model may fit in the cache
    where several do not (docs/performance.md, ``BATCHED_WEIGHTS``).

    Args:
        tasks: The executions.
        settings: The hyperparameters.
        seeds: A seed for each execution.
    """
    task = tasks[0]
    width = task.train.features.shape[1] + settings.latent_dim(len(task.class_attributes))
    on_gpu = task.train.features.device.type != "cpu"
    if len(tasks) == 1 or on_gpu or width * settings.hidden_dim <= BATCHED_WEIGHTS:
        return Batched(tasks, settings, seeds=seeds)
    pairs = zip(tasks, seeds, strict=True)
    return InTurn([Batched([task], settings, seeds=[seed]) for task, seed in pairs])


def train(task: Task, settings: Settings, *, epochs: int, seed: int) -> Iterator[Epoch]:
    """Train a model from scratch, yielding after each epoch.

    The caller stops early by not asking for the next epoch.

    Args:
        task: The images and classes.
        settings: The hyperparameters.
        epochs: How many to train.
        seed: Seed of the weights, the pairs and their order.

    Raises:
        DivergedError: A loss of an epoch is NaN or infinite, or the latents are all zero.
    """
    training = begin_trainings([task], settings, seeds=[seed])
    for _ in range(epochs):
        yield training.epoch()[0]


def draw_pairs(task: Task, generator: torch.Generator) -> Int64[Tensor, "3 images"]:
    """Draw an epoch of balanced pairs: every training image once, in random order (section 4.2).

    Returns:
        The images, as rows of the task's features; the class of each, its positive pair; another
        seen class for each, drawn uniformly, its negative pair. Classes are positions among the
        seen classes.
    """
    rows, classes, seen = task.train.rows, class_positions(task), len(task.seen_classes)
    order = torch.randperm(len(rows), generator=generator, device=rows.device)
    # Drawn among the other seen - 1 classes, then moved past the image's own.
    other = torch.randint(seen - 1, (len(rows),), generator=generator, device=rows.device)
    other += other >= classes
    return torch.stack([rows, classes, other])[:, order]


def batches(
    drawn: Sequence[Int64[Tensor, "3 _"]], batch_images: int
) -> Iterator[Int64[Tensor, "executions 4 images"]]:
    """Yield the steps of an epoch of several executions, given most images first.

    A step covers the executions that have images left: the rows, classes, other classes and weights
    of their images. An execution's last step is smaller if its images do not divide evenly; next
    to others, it is padded with copies of an image, of weight 0.
    """
    counts = [pairs.shape[1] for pairs in drawn]
    filled = drawn[0].new_zeros(len(drawn), 4, counts[0])
    for own, pairs, count in zip(filled, drawn, counts, strict=True):
        own[:3, :count] = pairs
        own[:3, count:] = pairs[:, :1]
        own[3, :count] = 1
    for start in range(0, counts[0], batch_images):
        active = sum(count > start for count in counts)
        yield filled[:active, :, start : start + batch_images]


def class_positions(task: Task) -> Int64[Tensor, " images"]:
    """Return the class of each training image as a position among the seen classes."""
    return torch.searchsorted(task.seen_classes, task.train.own_labels)


@torch.no_grad()
def _alive(model: MIANet, scaler: FeatureScaler, task: Task) -> Float[Tensor, " modalities"]:
    """Return 1 or 0 for the semantic and the visual modality: whether any latent is nonzero.

    Checks the classes and the first images, which suffice to show that nearly every model is alive.
    """
    semantic = model.embed_attributes(task.class_attributes).any()
    return torch.stack([semantic, _any_latent(model, scaler, task, 0)]).float()


@torch.no_grad()
def _any_latent(model: MIANet, scaler: FeatureScaler, task: Task, start: int) -> Bool[Tensor, ""]:
    rows = task.train.rows[start : start + _IMAGES_AT_ONCE]
    return model.embed_features(scaler(task.train.features.index_select(0, rows))).any()
