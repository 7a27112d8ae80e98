"""DAP: direct attribute prediction, a probabilistic classifier for each attribute.

C. H. Lampert, H. Nickisch and S. Harmeling, "Attribute-based classification for zero-shot visual
object categorization", TPAMI 2014 (CVPR 2009). The classifiers are logistic regressions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mianet.config import FeatureScaling, Settings
from mianet.errors import DivergedError
from mianet.protocol import Task
from mianet.reference.logistic import Linear, fit_linear
from mianet.scaling import FeatureScaler
from mianet.training import Epoch, class_positions

Threshold = Literal["overall", "attribute"]


@dataclass(frozen=True, kw_only=True)
class DAPSettings(Settings):
    """DAP's hyperparameters.

    Attributes:
        threshold: A class has an attribute whose value is above the mean over the seen classes: of
            all attributes, ``"overall"``, as in the publication, or of this ``"attribute"``.
        weight_decay: The classifiers' regulariser.
        feature_scaling: How features are scaled, fitted on training images only.
    """

    not_negative = ("weight_decay",)

    model: Literal["dap"] = "dap"
    threshold: Threshold = "overall"
    weight_decay: float = 1e-4
    feature_scaling: FeatureScaling = "standard"


@dataclass(frozen=True)
class DAP:
    """The trained classifiers of the attributes that some seen classes have and others lack.

    Attributes:
        classifiers: A logit for each of them.
        attributes: Which columns of the class attributes they are.
        thresholds: Values above which a class has them.
        priors: Shares of the seen classes that have them.
    """

    classifiers: Linear
    attributes: Bool[Tensor, " attributes"]
    thresholds: Float[Tensor, " kept"]
    priors: Float[Tensor, " kept"]

    def scores(
        self,
        features: Float[Tensor, "images features"],
        class_attributes: Float[Tensor, "classes attributes"],
    ) -> Float[Tensor, "images classes"]:
        """Return ``log Π_m p(a_m | x) / p(a_m)`` for the attributes a of every class.

        All classes are equally likely beforehand.
        """
        has = (class_attributes[:, self.attributes] > self.thresholds).to(features.dtype)
        logits = self.classifiers.logits(features)
        present = F.logsigmoid(logits) - self.priors.log()
        absent = F.logsigmoid(-logits) - (1 - self.priors).log()
        return present @ has.mT + absent @ (1 - has).mT


def train(task: Task, settings: DAPSettings, *, seed: int) -> Iterator[Epoch[DAP]]:
    """Yield the converged classifiers as the only epoch; there is nothing random in them.

    Args:
        task: The images and classes.
        settings: The model's hyperparameters.
        seed: Not used.

    Raises:
        DivergedError: A classifier is not finite, or there is nothing to classify: every class has
            the same attributes.
    """
    scaler = FeatureScaler.fit(settings.feature_scaling, task.train.features, task.train.rows)
    values = task.class_attributes[task.seen_classes]
    means = (
        values.mean(0)
        if settings.threshold == "attribute"
        else values.mean().expand(values.shape[1])
    )
    has = values > means
    # What all seen classes share, or lack, no image can teach, and its prior would be 0 or 1.
    varied = has.any(0) & ~has.all(0)
    if not varied.any():
        raise DivergedError("no binary attribute tells the seen classes apart")
    has = has[:, varied].to(values.dtype)
    targets = has[class_positions(task)]
    classifiers, loss = fit_linear(
        task,
        scaler,
        has.shape[1],
        lambda logits: (
            F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(targets)
        ),
        settings.weight_decay,
    )
    model = DAP(classifiers, varied, means[varied], has.mean(0))
    yield Epoch(1, {"classifiers": loss / has.shape[1]}, model, scaler)
