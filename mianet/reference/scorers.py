"""What the linear reference models have learnt: a matrix between features and attributes."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Bilinear:
    """The compatibility ``xᵀ W s`` of an image x and a class s."""

    weight: Float[Tensor, "features attributes"]

    def scores(
        self,
        features: Float[Tensor, "images features"],
        class_attributes: Float[Tensor, "classes attributes"],
    ) -> Float[Tensor, "images classes"]:
        """Return the compatibilities."""
        return features @ self.weight @ class_attributes.mT


@dataclass(frozen=True)
class CosineOfAttributes:
    """The cosine of the attributes ``Wᵀ x`` seen in an image with those of a class."""

    weight: Float[Tensor, "features attributes"]

    def scores(
        self,
        features: Float[Tensor, "images features"],
        class_attributes: Float[Tensor, "classes attributes"],
    ) -> Float[Tensor, "images classes"]:
        """Return the cosines."""
        return F.normalize(features @ self.weight) @ F.normalize(class_attributes).mT


@dataclass(frozen=True)
class CosineOfFeatures:
    """The cosine of an image's features with those, ``W s``, that a class should have."""

    weight: Float[Tensor, "features attributes"]

    def scores(
        self,
        features: Float[Tensor, "images features"],
        class_attributes: Float[Tensor, "classes attributes"],
    ) -> Float[Tensor, "images classes"]:
        """Return the cosines."""
        return F.normalize(features) @ F.normalize(class_attributes @ self.weight.mT).mT
