"""Everything that the paper's tables and figures ask of one training on all of trainval."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from mianet.config import Hyperparameters
from mianet.data.search_data import SearchData
from mianet.data.test_parts import TestParts
from mianet.evaluation import Metrics, evaluate
from mianet.final_training import classifier_of, final_task
from mianet.inference.prediction import Classifier, class_scores
from mianet.inference.retrieval import mean_average_precision
from mianet.protocol import as_tensor
from mianet.training import train


@dataclass(frozen=True)
class Measured:
    """One training, scored on the test parts. No epoch is chosen by what is measured here.

    Attributes:
        curve: The figures after each epoch; the last are those of the tables.
        steps: Optimisation steps of an epoch.
        retrieval: mAP of unseen classes' attributes among unseen classes' images (eq. 9).
        class_accuracy: Unseen class → share of its images that are classified correctly among the
            unseen classes; their mean is T1.
        new_classes: The unseen classes whose attributes training did not know.
        seconds: How long training and scoring took.
        classifier: The trained model on the CPU; None unless it was asked for.
    """

    curve: tuple[Metrics, ...]
    steps: int
    retrieval: float
    class_accuracy: Mapping[int, float]
    new_classes: tuple[int, ...]
    seconds: float
    classifier: Classifier | None

    @property
    def figures(self) -> dict[str, float]:
        """Return name → value, as fractions of 1."""
        return {**self.curve[-1].as_dict(), "retrieval_map": self.retrieval}


def measure(
    data: SearchData,
    test: TestParts,
    settings: Hyperparameters,
    *,
    epochs: int,
    seed: int,
    device: torch.device | str = "cpu",
    keep_model: bool = False,
    new_classes: int = 0,
) -> Measured:
    """Train as ``train_final`` does, and score the test parts after each epoch.

    Args:
        data: The training images.
        test: The test parts and all classes.
        settings: Hyperparameters.
        epochs: Length of the training.
        seed: Of weights, batches and new classes.
        device: Where to train.
        keep_model: Whether to return the trained model.
        new_classes: How many unseen classes training does not know: their attributes take no part
            in it, and they are added for the test (section 4.6).

    Raises:
        DivergedError: The training left the finite numbers.
    """
    started = time.monotonic()
    task = final_task(data, test, torch.device(device))
    new = draw_new_classes(test.unseen_classes, new_classes, seed)
    known = as_tensor(np.setdiff1d(test.unseen_classes, new), torch.device(device))
    curve = []
    for epoch in train(replace(task, unseen_classes=known), settings, epochs=epochs, seed=seed):
        curve.append(evaluate(epoch.model, epoch.scaler, task))
    images = task.heldout_unseen
    scores = class_scores(epoch.model, epoch.scaler, images.features, task.class_attributes)
    predicted = task.unseen_classes[scores[:, task.unseen_classes].argmax(1)]
    return Measured(
        curve=tuple(curve),
        steps=math.ceil(len(data.labels) / settings.batch_images),
        retrieval=mean_average_precision(scores, images.labels, task.unseen_classes),
        class_accuracy=_class_accuracy(predicted, images.labels, task.unseen_classes),
        new_classes=new,
        seconds=time.monotonic() - started,
        classifier=classifier_of(epoch.model, epoch.scaler, test) if keep_model else None,
    )


def draw_new_classes(
    unseen_classes: Int64[np.ndarray, " unseen"], count: int, seed: int
) -> tuple[int, ...]:
    """Return the unseen classes that are new; a seed's larger draws contain its smaller ones.

    Args:
        unseen_classes: Ids to draw from.
        count: How many to draw.
        seed: Of the draw.
    """
    order = np.random.default_rng(seed).permutation(unseen_classes)
    return tuple(order[:count].tolist())


def _class_accuracy(
    predicted: Int64[Tensor, " images"],
    labels: Int64[Tensor, " images"],
    classes: Int64[Tensor, " unseen"],
) -> dict[int, float]:
    return {c: (predicted[labels == c] == c).double().mean().item() for c in classes.tolist()}
