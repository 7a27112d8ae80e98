"""SAE: a linear autoencoder whose code is the attributes, by a Sylvester equation.

E. Kodirov, T. Xiang and S. Gong, "Semantic autoencoder for zero-shot learning", CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from mianet.config import FeatureScaling, Settings
from mianet.errors import DivergedError
from mianet.inference.prediction import Scorer
from mianet.protocol import Task
from mianet.reference.moments import Moments, moments
from mianet.reference.scorers import CosineOfAttributes, CosineOfFeatures
from mianet.scaling import FeatureScaler
from mianet.training import Epoch

Matching = Literal["attributes", "features"]

_SCORERS: Mapping[Matching, Callable[[Tensor], Scorer]] = {
    "attributes": CosineOfAttributes,
    "features": CosineOfFeatures,
}
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True, kw_only=True)
class SAESettings(Settings):
    """SAE's hyperparameters.

    Attributes:
        encoder_weight: λ, the weight of ``‖W x − s‖²`` beside the reconstruction.
        matching: Where images and classes meet: among ``"attributes"``, by the encoder, or among
            ``"features"``, by the decoder; the publication has both.
        feature_scaling: How features are scaled, fitted on training images only.
    """

    positive = ("encoder_weight",)

    model: Literal["sae"] = "sae"
    encoder_weight: float = 1.0
    matching: Matching = "features"
    feature_scaling: FeatureScaling = "l2"


def train(task: Task, settings: SAESettings, *, seed: int) -> Iterator[Epoch[Scorer]]:
    """Yield the solution as the only epoch; there is nothing random in it.

    Args:
        task: The images and classes.
        settings: The model's hyperparameters.
        seed: Not used.

    Raises:
        DivergedError: The solution is not finite.
    """
    scaler = FeatureScaler.fit(settings.feature_scaling, task.train.features, task.train.rows)
    encoder = solve(moments(task, scaler), settings.encoder_weight).float()
    if not encoder.isfinite().all():
        raise DivergedError("the solution of SAE is not finite")
    yield Epoch(1, {}, _SCORERS[settings.matching](encoder.mT), scaler)


def solve(of: Moments, encoder_weight: float) -> Float64[Tensor, "attributes features"]:
    """Return the W that minimises ``‖X − Wᵀ S‖² + λ‖W X − S‖²``, an image a column.

    It solves ``A W + W B = C`` for ``A = S Sᵀ``, ``B = λ X Xᵀ``, ``C = (1 + λ) S Xᵀ``. Both A and
    B are symmetric, so their eigenvectors make the equation diagonal, which is faster than
    a general solver and works on a GPU. A has the rank of the seen classes at most; where neither
    side determines W (a feature that is always 0), W is 0.
    """
    attributes = of.class_attributes
    a, left = torch.linalg.eigh(attributes.mT @ (of.class_counts[:, None] * attributes))
    b, right = torch.linalg.eigh(encoder_weight * of.gram)
    wanted = left.mT @ ((1 + encoder_weight) * attributes.mT @ of.class_sums) @ right
    scale = a[:, None].clamp_min(0) + b.clamp_min(0)
    determined = scale > _NEGLIGIBLE * scale.max()
    solution: Tensor = left @ torch.where(determined, wanted / scale, 0) @ right.mT
    return solution
