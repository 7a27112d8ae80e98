"""The final training: all of trainval, all attributes, the test parts scored once (section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64

from mianet.calibration import SeenUnseenCurve, seen_unseen_curve
from mianet.config import Settings
from mianet.data.search_data import SearchData
from mianet.data.test_parts import TestParts
from mianet.evaluation import Metrics, score, summarise
from mianet.inference.prediction import Classifier
from mianet.model import MIANet
from mianet.protocol import Part, Task, as_tensor
from mianet.scaling import FeatureScaler
from mianet.training import Begin, Training, run


@dataclass(frozen=True)
class FinalResult:
    """One seed's final training.

    Attributes:
        metrics: The test parts' figures.
        confusion: How many test images of each class (row) are taken for each (column).
        curve: ts and tr at every constant taken off seen classes' scores; its area is AUSUC.
        classifier: The trained model with all classes, on the CPU; None for a reference model,
            which is there to compare with and is not kept.
    """

    metrics: Metrics
    confusion: Int64[np.ndarray, "classes classes"]
    curve: SeenUnseenCurve
    classifier: Classifier | None


def final_task(data: SearchData, test: TestParts, device: torch.device) -> Task:
    """Return the true task: all of trainval to train on, the test parts to score.

    Args:
        data: All of trainval.
        test: The test parts, and all classes.
        device: Where the tensors go.
    """

    def whole(
        features: Float32[np.ndarray, "images features"], labels: Int64[np.ndarray, " images"]
    ) -> Part:
        rows = torch.arange(len(labels), device=device)
        return Part(as_tensor(features, device), as_tensor(labels, device), rows)

    return Task(
        class_attributes=as_tensor(test.class_attributes, device),
        seen_classes=as_tensor(test.seen_classes, device),
        unseen_classes=as_tensor(test.unseen_classes, device),
        train=whole(data.features, data.class_ids[data.labels]),
        heldout_seen=whole(test.test_seen_features, test.test_seen_labels),
        heldout_unseen=whole(test.test_unseen_features, test.test_unseen_labels),
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
    begin: Begin = Training,
) -> FinalResult:
    """Train a configuration for its selected number of epochs and score the test parts once.

    Args:
        data: All of trainval.
        test: The test parts, and all classes.
        settings: The configuration.
        epochs: How long to train.
        seed: Of the weights and the batches.
        calibration: What is subtracted from seen classes' scores for the calibrated figures and by
            the classifier; validation chose it.
        device: Where to train.
        begin: The model's training.

    Raises:
        DivergedError: The training left the finite numbers.
    """
    task = final_task(data, test, torch.device(device))
    *_, last = run(begin(task, settings, seed=seed), epochs)
    scored = score(last.model, last.scaler, task)
    (metrics,) = summarise([scored.outcome], calibration).executions
    return FinalResult(
        metrics=metrics,
        confusion=scored.confusion.cpu().numpy(),
        curve=seen_unseen_curve(scored.gaps),
        classifier=(
            classifier_of(last.model, last.scaler, test, calibration)
            if isinstance(last.model, MIANet)
            else None
        ),
    )


def classifier_of(
    model: MIANet, scaler: FeatureScaler, test: TestParts, calibration: float = 0.0
) -> Classifier:
    """Return a trained model as a classifier of all classes; both parts move to the CPU.

    Args:
        model: The trained model.
        scaler: The feature scaling in front of it.
        test: All classes, with names and attributes.
        calibration: What the classifier subtracts from seen classes' scores.
    """
    return Classifier(
        model.cpu().eval(),
        scaler.cpu(),
        as_tensor(test.class_attributes, torch.device("cpu")),
        test.class_names,
        np.isin(np.arange(len(test.class_names)), test.unseen_classes),
        calibration=calibration,
    )
