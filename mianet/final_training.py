"""The final training: all of trainval, all attributes, the test parts scored once (section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mianet.config import Hyperparameters
from mianet.data import SearchData
from mianet.evaluation import Metrics, evaluate
from mianet.prediction import Classifier
from mianet.protocol import final_task
from mianet.test_parts import TestParts
from mianet.training import train


@dataclass(frozen=True)
class FinalResult:
    """One seed's final training.

    Attributes:
        metrics: The test parts' figures.
        classifier: The trained model with all classes, on the CPU.
    """

    metrics: Metrics
    classifier: Classifier


def train_final(
    data: SearchData,
    test: TestParts,
    settings: Hyperparameters,
    *,
    epochs: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> FinalResult:
    """Train a configuration for its selected number of epochs and score the test parts once.

    Raises:
        DivergedError: The training left the finite numbers.
    """
    task = final_task(data, test, torch.device(device))
    *_, last = train(task, settings, epochs=epochs, seed=seed)
    metrics = evaluate(last.model, last.scaler, task)
    classifier = Classifier(
        last.model.cpu().eval(),
        last.scaler.cpu(),
        task.class_attributes.cpu(),
        test.class_names,
        np.isin(np.arange(len(test.class_names)), test.unseen_classes),
    )
    return FinalResult(metrics, classifier)
