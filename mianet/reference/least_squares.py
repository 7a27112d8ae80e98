"""ESZSL and SAE: linear least-squares models, each solved in closed form.

- ESZSL: B. Romera-Paredes and P. H. S. Torr, "An embarrassingly simple approach to zero-shot
  learning", ICML 2015.
- SAE: E. Kodirov, T. Xiang and S. Gong, "Semantic autoencoder for zero-shot learning", CVPR 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from mianet.errors import DivergedError
from mianet.model import Attributes, Features, Scores
from mianet.protocol import Task
from mianet.reference.repeated import Fitted, closed_form
from mianet.reference.settings import ESZSLSettings, Matching, SAESettings
from mianet.scaling import FeatureScaler
from mianet.training import class_positions

_ROWS_AT_ONCE = 4096
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class Moments:
    """All that a least-squares model needs from the images, in double precision.

    A normal equation squares the features' condition number, so single precision would suffice only
    with strong regularisers.
    """

    gram: Float64[Tensor, "features features"]  # ``Xᵀ X`` of the scaled training features X
    # ``Yᵀ X``, one row per seen class, for the indicators Y of the images' classes
    class_sums: Float64[Tensor, "seen features"]
    class_counts: Float64[Tensor, " seen"]  # training images of each seen class
    class_attributes: Float64[Tensor, "seen attributes"]  # attributes of the seen classes


def moments(task: Task, scaler: FeatureScaler) -> Moments:
    """Sum over the training images, a few thousand at a time."""
    width, seen = task.train.features.shape[1], len(task.seen_classes)
    class_attributes = task.class_attributes[task.seen_classes].double()
    gram = class_attributes.new_zeros(width, width)
    class_sums = class_attributes.new_zeros(seen, width)
    class_counts = class_attributes.new_zeros(seen)
    positions = class_positions(task)
    for chosen in torch.arange(len(positions), device=positions.device).split(_ROWS_AT_ONCE):
        features = scaler(task.train.features[task.train.rows[chosen]]).double()
        # A product, since adding rows by class is not deterministic on a GPU.
        indicators = F.one_hot(positions[chosen], seen).double()
        gram.addmm_(features.mT, features)
        class_sums.addmm_(indicators.mT, features)
        class_counts += indicators.sum(0)
    return Moments(gram, class_sums, class_counts, class_attributes)


@dataclass(frozen=True)
class Bilinear:
    """The compatibility ``xᵀ W s`` of an image x and a class s."""

    weight: Float[Tensor, "features attributes"]

    def scores(self, features: Features, class_attributes: Attributes) -> Scores:
        return features @ self.weight @ class_attributes.mT


@dataclass(frozen=True)
class Cosine:
    """The cosine of an image x and a class s among ``Wᵀ x`` and s, or among x and ``W s``."""

    weight: Float[Tensor, "features attributes"]
    matching: Matching

    def scores(self, features: Features, class_attributes: Attributes) -> Scores:
        if self.matching == "attributes":
            features = features @ self.weight
        else:
            class_attributes = class_attributes @ self.weight.mT
        return F.normalize(features) @ F.normalize(class_attributes).mT


def fit_eszsl(task: Task, scaler: FeatureScaler, settings: ESZSLSettings) -> Fitted:
    """Fit ESZSL; see ``mianet.reference.repeated.Fit``."""
    return Bilinear(_finite(solve_eszsl(moments(task, scaler), settings).float(), "ESZSL")), {}


def solve_eszsl(sums: Moments, settings: ESZSLSettings) -> Float64[Tensor, "features attributes"]:
    """Return ``W = (XᵀX + γI)⁻¹ Xᵀ Y S (SᵀS + λI)⁻¹``.

    It minimises ``‖X W Sᵀ − Y‖² + γ‖W Sᵀ‖² + λ‖X W‖² + γλ‖W‖²``. The targets Y are 1 for an
    image's class and 0 for the others, which reproduces the published evaluation; the publication
    writes 1 and −1.
    """
    left = sums.gram.clone()
    left.diagonal().add_(settings.feature_weight)
    right = sums.class_attributes.mT @ sums.class_attributes
    right.diagonal().add_(settings.attribute_weight)
    weight = torch.linalg.solve(left, sums.class_sums.mT @ sums.class_attributes)
    solution: Tensor = torch.linalg.solve(right, weight.mT).mT
    return solution


def fit_sae(task: Task, scaler: FeatureScaler, settings: SAESettings) -> Fitted:
    """Fit SAE; see ``mianet.reference.repeated.Fit``."""
    encoder = solve_sae(moments(task, scaler), settings.encoder_weight).float()
    return Cosine(_finite(encoder, "SAE").mT, settings.matching), {}


def solve_sae(sums: Moments, encoder_weight: float) -> Float64[Tensor, "attributes features"]:
    """Return the W that minimises ``‖X − Wᵀ S‖² + λ‖W X − S‖²``, with one column per image.

    It solves ``A W + W B = C`` for ``A = S Sᵀ``, ``B = λ X Xᵀ``, ``C = (1 + λ) S Xᵀ``. Both A and
    B are symmetric, so their eigenvectors diagonalise the equation, which is faster than a
    general solver and works on a GPU. The rank of A is at most the number of seen classes; where
    neither side determines W (a feature that is always 0), W is 0.
    """
    attributes = sums.class_attributes
    a, left = torch.linalg.eigh(attributes.mT @ (sums.class_counts[:, None] * attributes))
    b, right = torch.linalg.eigh(encoder_weight * sums.gram)
    wanted = left.mT @ ((1 + encoder_weight) * attributes.mT @ sums.class_sums) @ right
    scale = a[:, None].clamp_min(0) + b.clamp_min(0)
    determined = scale > _NEGLIGIBLE * scale.max()
    solution: Tensor = left @ torch.where(determined, wanted / scale, 0) @ right.mT
    return solution


def _finite(solution: Tensor, model: str) -> Tensor:
    if not solution.isfinite().all():
        raise DivergedError(f"the solution of {model} is not finite")
    return solution


begin_eszsl = closed_form(fit_eszsl)
begin_sae = closed_form(fit_sae)
