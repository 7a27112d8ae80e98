"""The hyperparameters of the reference models, which can be checked without loading PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mianet.config import FeatureScaling, Settings

Matching = Literal["attributes", "features"]
Threshold = Literal["overall", "attribute"]


@dataclass(frozen=True, kw_only=True)
class ESZSLSettings(Settings):
    """ESZSL's hyperparameters."""

    positive = ("feature_weight", "attribute_weight")
    trainer = "mianet.reference.least_squares:begin_eszsl"

    model: Literal["eszsl"] = "eszsl"
    feature_weight: float = 1e3  # γ, the regulariser of ``W Sᵀ``, on the side of the features
    attribute_weight: float = 1.0  # λ, the regulariser of ``X W``, on the side of the attributes
    feature_scaling: FeatureScaling = "none"


@dataclass(frozen=True, kw_only=True)
class SAESettings(Settings):
    """SAE's hyperparameters."""

    positive = ("encoder_weight",)
    trainer = "mianet.reference.least_squares:begin_sae"

    model: Literal["sae"] = "sae"
    encoder_weight: float = 1.0  # λ, the weight of ``‖W x − s‖²`` relative to the reconstruction
    # where images and classes are compared: as ``"attributes"``, using the encoder, or as
    # ``"features"``, using the decoder; the publication has both
    matching: Matching = "features"
    feature_scaling: FeatureScaling = "l2"


@dataclass(frozen=True, kw_only=True)
class ConSESettings(Settings):
    """ConSE's hyperparameters."""

    positive = ("top",)
    not_negative = ("weight_decay",)
    trainer = "mianet.reference.logistic:begin_conse"

    model: Literal["conse"] = "conse"
    # T, how many of the classifier's best guesses are combined; all, if there are fewer
    top: int = 10
    weight_decay: float = 1e-4  # the classifier's regulariser
    feature_scaling: FeatureScaling = "standard"


@dataclass(frozen=True, kw_only=True)
class DAPSettings(Settings):
    """DAP's hyperparameters."""

    not_negative = ("weight_decay",)
    trainer = "mianet.reference.logistic:begin_dap"

    model: Literal["dap"] = "dap"
    # a class has an attribute if its value is above the seen classes' mean: over all attributes,
    # ``"overall"``, as in the publication, or over this ``"attribute"``
    threshold: Threshold = "overall"
    weight_decay: float = 1e-4  # the classifiers' regulariser
    feature_scaling: FeatureScaling = "standard"


@dataclass(frozen=True, kw_only=True)
class RankingSettings(Settings):
    """What ALE, DeViSE and SJE have in common."""

    positive = ("learning_rate", "batch_images")
    trainer = "mianet.reference.ranking:begin_ranking"

    learning_rate: float = 0.01  # step size of the stochastic gradient descent, constant
    batch_images: int = 32  # images per step; their gradients are averaged
    feature_scaling: FeatureScaling = "l2"


@dataclass(frozen=True, kw_only=True)
class ALESettings(RankingSettings):
    """ALE's hyperparameters."""

    model: Literal["ale"] = "ale"


@dataclass(frozen=True, kw_only=True)
class DeViSESettings(RankingSettings):
    """DeViSE's hyperparameters."""

    model: Literal["devise"] = "devise"


@dataclass(frozen=True, kw_only=True)
class SJESettings(RankingSettings):
    """SJE's hyperparameters."""

    model: Literal["sje"] = "sje"
