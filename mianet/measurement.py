"""Everything that the paper's tables and figures ask of one training on all of trainval."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

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
from mianet.training import train


@dataclass(frozen=True)
class Measured:
    """One training, scored on the test parts. No epoch is chosen by what is measured here.

    Attributes:
        curve: The figures after each epoch; the last are those of the tables.
        steps: Optimisation steps of an epoch.
        retrieval: mAP of unseen classes' attributes among unseen classes' images (eq. 9).
        class_accuracy: Share of each unseen class's images that is named rightly among the unseen
            classes, in the order of ``unseen_classes``; their mean is T1.
        seconds: How long training and scoring took.
        classifier: The trained model on the CPU; None unless it was asked for.
    """

    curve: tuple[Metrics, ...]
    steps: int
    retrieval: float
    class_accuracy: tuple[float, ...]
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
) -> Measured:
    """Train as ``train_final`` does, and score the test parts after each epoch.

    Raises:
        DivergedError: The training left the finite numbers.
    """
    started = time.monotonic()
    task = final_task(data, test, torch.device(device))
    curve = []
    for epoch in train(task, settings, epochs=epochs, seed=seed):
        curve.append(evaluate(epoch.model, epoch.scaler, task))
    images = task.heldout_unseen
    scores = class_scores(epoch.model, epoch.scaler, images.features, task.class_attributes)
    predicted = task.unseen_classes[scores[:, task.unseen_classes].argmax(1)]
    return Measured(
        curve=tuple(curve),
        steps=math.ceil(len(data.labels) / settings.batch_images),
        retrieval=mean_average_precision(scores, images.labels, task.unseen_classes),
        class_accuracy=_class_accuracy(predicted, images.labels, task.unseen_classes),
        seconds=time.monotonic() - started,
        classifier=classifier_of(epoch.model, epoch.scaler, test) if keep_model else None,
    )


def _class_accuracy(
    predicted: Int64[Tensor, " images"],
    labels: Int64[Tensor, " images"],
    classes: Int64[Tensor, " unseen"],
) -> tuple[float, ...]:
    return tuple((predicted[labels == c] == c).double().mean().item() for c in classes.tolist())
