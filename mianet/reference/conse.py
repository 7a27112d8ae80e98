"""ConSE: a convex combination of the seen classes' attributes, by a classifier's best guesses.

M. Norouzi et al., "Zero-shot learning by convex combination of semantic embeddings", ICLR 2014.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mianet.config import FeatureScaling, Settings
from mianet.protocol import Task
from mianet.reference.logistic import Linear, fit_linear
from mianet.scaling import FeatureScaler
from mianet.training import Epoch, class_positions


@dataclass(frozen=True, kw_only=True)
class ConSESettings(Settings):
    """ConSE's hyperparameters.

    Attributes:
        top: T, how many of the classifier's best guesses are combined; all, where it has fewer.
        weight_decay: The classifier's regulariser.
        feature_scaling: How features are scaled, fitted on training images only.
    """

    positive = ("top",)
    not_negative = ("weight_decay",)

    model: Literal["conse"] = "conse"
    top: int = 10
    weight_decay: float = 1e-4
    feature_scaling: FeatureScaling = "standard"


@dataclass(frozen=True)
class ConSE:
    """The trained classifier, and the attributes of the classes that it tells apart."""

    classifier: Linear
    seen_attributes: Float[Tensor, "seen attributes"]
    top: int

    def scores(
        self,
        features: Float[Tensor, "images features"],
        class_attributes: Float[Tensor, "classes attributes"],
    ) -> Float[Tensor, "images classes"]:
        """Return the cosine of the combined attributes with every class's.

        The combination is over the T likeliest seen classes, weighted by their probabilities; the
        sum of those, by which the publication divides, is the same for all classes.
        """
        probabilities = self.classifier.logits(features).softmax(-1)
        best = probabilities.topk(min(self.top, probabilities.shape[1]))
        kept = probabilities.new_zeros(probabilities.shape).scatter(1, best.indices, best.values)
        combined = kept @ self.seen_attributes
        return F.normalize(combined) @ F.normalize(class_attributes).mT


def train(task: Task, settings: ConSESettings, *, seed: int) -> Iterator[Epoch[ConSE]]:
    """Yield the converged classifier as the only epoch; there is nothing random in it.

    Args:
        task: The images and classes.
        settings: The model's hyperparameters.
        seed: Not used.

    Raises:
        DivergedError: The classifier is not finite.
    """
    scaler = FeatureScaler.fit(settings.feature_scaling, task.train.features, task.train.rows)
    positions = class_positions(task)
    classifier, loss = fit_linear(
        task,
        scaler,
        len(task.seen_classes),
        lambda logits: F.cross_entropy(logits, positions),
        settings.weight_decay,
    )
    seen_attributes = task.class_attributes[task.seen_classes]
    model = ConSE(classifier, seen_attributes, settings.top)
    yield Epoch(1, {"classifier": loss}, model, scaler)
