"""Training on all of trainval and scoring the test parts (section 4.2).

The final training scores them once; ``measure`` gives what the paper's tables and figures need.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, Int64

from mianet.calibration import SeenUnseenCurve, seen_unseen_curve
from mianet.config import Hyperparameters, Settings
from mianet.data.search_data import SearchData
from mianet.data.test_parts import TestParts
from mianet.evaluation import Metrics, evaluate, mean_average_precision, score, summarise
from mianet.inference.prediction import Classifier, class_scores
from mianet.model import MIANet
from mianet.protocol import Subset, Task, as_tensor
from mianet.training import Epoch, train


@dataclass(frozen=True)
class FinalResult:
    """One seed's final training, scored on the test parts."""

    metrics: Metrics
    # how many test images of each class (row) are predicted as each (column)
    confusion: Int64[np.ndarray, "classes classes"]
    # ts and tr for every constant subtracted from seen classes' scores; its area is AUSUC
    curve: SeenUnseenCurve
    # the trained model with all classes, on the CPU; None for a reference model, which serves only
    # for comparison and is not kept
    classifier: Classifier | None


def final_task(data: SearchData, test: TestParts, device: torch.device) -> Task:
    """Return the true task: all of trainval to train on, the test parts to score.

    Args:
        data: All of trainval.
        test: The test parts, and all classes.
        device: Where the tensors go.
    """

    def all_rows(
        features: Float32[np.ndarray, "images features"], labels: Int64[np.ndarray, " images"]
    ) -> Subset:
        rows = torch.arange(len(labels), device=device)
        return Subset(as_tensor(features, device), as_tensor(labels, device), rows)

    return Task(
        class_attributes=as_tensor(test.class_attributes, device),
        seen_classes=as_tensor(test.seen_classes, device),
        unseen_classes=as_tensor(test.unseen_classes, device),
        train=all_rows(data.features, data.class_ids[data.labels]),
        heldout_seen=all_rows(test.test_seen_features, test.test_seen_labels),
        heldout_unseen=all_rows(test.test_unseen_features, test.test_unseen_labels),
    )


def train_final(
    data: SearchData,
    test: TestParts,
    settings: Settings,
    *,
    epochs: int,
    seed: int,
    calibration: float = 0.0,
    device: torch.device | str = "cpu",
) -> FinalResult:
    """Train a configuration for its selected number of epochs and score the test parts once.

    Args:
        data: All of trainval.
        test: The test parts, and all classes.
        settings: The configuration.
        epochs: How long to train.
        seed: Seed of the weights and the batches.
        calibration: Constant chosen by validation, subtracted from seen classes' scores for the
            calibrated figures and by the classifier.
        device: Where to train.

    Raises:
        DivergedError: Training produced NaN or infinity.
    """
    task = final_task(data, test, torch.device(device))
    *_, last = train(task, settings, epochs=epochs, seed=seed)
    scored = score(last, task)
    (metrics,) = summarise([scored.outcome], calibration).executions
    return FinalResult(
        metrics=metrics,
        confusion=scored.confusion.cpu().numpy(),
        curve=seen_unseen_curve(scored.gaps),
        classifier=(
            _build_classifier(last, test, calibration) if isinstance(last.model, MIANet) else None
        ),
    )


def _build_classifier(epoch: Epoch, test: TestParts, calibration: float = 0.0) -> Classifier:
    """Return a trained MIANet as a classifier of all classes; it moves to the CPU."""
    return Classifier(
        epoch.model.cpu().eval(),
        epoch.scaler.cpu(),
        as_tensor(test.class_attributes, torch.device("cpu")),
        test.class_names,
        np.isin(np.arange(len(test.class_names)), test.unseen_classes),
        calibration=calibration,
    )


@dataclass(frozen=True)
class Measured:
    """One training, scored on the test parts. No epoch is chosen by what is measured here."""

    curve: tuple[Metrics, ...]  # the figures after each epoch; the tables show the last
    steps: int  # optimisation steps per epoch
    retrieval: float  # mAP of unseen classes' attributes among unseen classes' images (eq. 9)
    # unseen class → share of its images that are classified correctly among the unseen classes;
    # their mean is T1
    class_accuracy: Mapping[int, float]
    new_classes: tuple[int, ...]  # the unseen classes whose attributes were kept out of training
    seconds: float  # how long training and scoring took
    classifier: Classifier | None  # the trained model on the CPU; None unless requested

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
        seed: Seed of weights, batches and new classes.
        device: Where to train.
        keep_model: Whether to return the trained model.
        new_classes: How many unseen classes to keep out of training: their attributes are not used
            in it, and they are added for the test (section 4.6).

    Raises:
        DivergedError: Training produced NaN or infinity.
    """
    started, device = time.monotonic(), torch.device(device)
    task = final_task(data, test, device)
    new = draw_new_classes(test.unseen_classes, new_classes, seed)
    known = as_tensor(np.setdiff1d(test.unseen_classes, new), device)
    curve = []
    for epoch in train(replace(task, unseen_classes=known), settings, epochs=epochs, seed=seed):
        curve.append(evaluate(epoch, task))
    images = task.heldout_unseen
    scores = class_scores(epoch.model, epoch.scaler, images.features, task.class_attributes)
    predicted = task.unseen_classes[scores[:, task.unseen_classes].argmax(1)]
    return Measured(
        curve=tuple(curve),
        steps=math.ceil(len(data.labels) / settings.batch_images),
        retrieval=mean_average_precision(scores, images.labels, task.unseen_classes),
        class_accuracy={
            c: (predicted[images.labels == c] == c).double().mean().item()
            for c in task.unseen_classes.tolist()
        },
        new_classes=new,
        seconds=time.monotonic() - started,
        classifier=_build_classifier(epoch, test) if keep_model else None,
    )


def draw_new_classes(
    unseen_classes: Int64[np.ndarray, " unseen"], count: int, seed: int
) -> tuple[int, ...]:
    """Draw the unseen classes that are new; a seed's larger draws contain its smaller ones.

    Args:
        unseen_classes: Ids to draw from.
        count: How many to draw.
        seed: Seed of the draw.
    """
    order = np.random.default_rng(seed).permutation(unseen_classes)
    return tuple(order[:count].tolist())
