"""ESZSL: a bilinear compatibility by least squares, in closed form.

B. Romera-Paredes and P. H. S. Torr, "An embarrassingly simple approach to zero-shot learning",
ICML 2015.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from mianet.config import FeatureScaling, Settings
from mianet.errors import DivergedError
from mianet.protocol import Task
from mianet.reference.moments import Moments, moments
from mianet.reference.scorers import Bilinear
from mianet.scaling import FeatureScaler
from mianet.training import Epoch


@dataclass(frozen=True, kw_only=True)
class ESZSLSettings(Settings):
    """ESZSL's hyperparameters.

    Attributes:
        feature_weight: γ, the regulariser of ``W Sᵀ``, on the side of the features.
        attribute_weight: λ, the regulariser of ``X W``, on the side of the attributes.
        feature_scaling: How features are scaled, fitted on training images only.
    """

    positive = ("feature_weight", "attribute_weight")

    model: Literal["eszsl"] = "eszsl"
    feature_weight: float = 1e3
    attribute_weight: float = 1.0
    feature_scaling: FeatureScaling = "none"


def train(task: Task, settings: ESZSLSettings, *, seed: int) -> Iterator[Epoch[Bilinear]]:
    """Yield the solution as the only epoch; there is nothing random in it.

    Args:
        task: The images and classes.
        settings: The model's hyperparameters.
        seed: Not used.

    Raises:
        DivergedError: The solution is not finite.
    """
    scaler = FeatureScaler.fit(settings.feature_scaling, task.train.features, task.train.rows)
    weight = solve(
        moments(task, scaler), settings.feature_weight, settings.attribute_weight
    ).float()
    if not weight.isfinite().all():
        raise DivergedError("the solution of ESZSL is not finite")
    yield Epoch(1, {}, Bilinear(weight), scaler)


def solve(
    of: Moments, feature_weight: float, attribute_weight: float
) -> Float64[Tensor, "features attributes"]:
    """Return ``W = (XᵀX + γI)⁻¹ Xᵀ Y S (SᵀS + λI)⁻¹``.

    It minimises ``‖X W Sᵀ − Y‖² + γ‖W Sᵀ‖² + λ‖X W‖² + γλ‖W‖²``. The targets Y are 1 for an
    image's class and 0 for the others: with those the published evaluation is reproduced, where
    the publication writes 1 and −1.

    Args:
        of: ``XᵀX``, ``XᵀY`` and S.
        feature_weight: γ.
        attribute_weight: λ.
    """
    left = of.gram.clone()
    left.diagonal().add_(feature_weight)
    right = of.class_attributes.mT @ of.class_attributes
    right.diagonal().add_(attribute_weight)
    weight = torch.linalg.solve(left, of.class_sums.mT @ of.class_attributes)
    solution: Tensor = torch.linalg.solve(right, weight.mT).mT
    return solution
