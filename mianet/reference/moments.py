"""What the least-squares models need of a task's training images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float64
from torch import Tensor

from mianet.protocol import Task
from mianet.scaling import FeatureScaler
from mianet.training import class_positions

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Moments:
    """All that a least-squares model needs of the images, in double precision.

    A normal equation squares the condition of the features, so single precision would do for
    strong regularisers only.

    Attributes:
        gram: ``Xᵀ X`` of the scaled training features X.
        class_sums: ``Yᵀ X``, a row a seen class, for the indicators Y of the images' classes.
        class_counts: Training images of each seen class.
        class_attributes: Attributes of the seen classes.
    """

    gram: Float64[Tensor, "features features"]
    class_sums: Float64[Tensor, "seen features"]
    class_counts: Float64[Tensor, " seen"]
    class_attributes: Float64[Tensor, "seen attributes"]


def moments(task: Task, scaler: FeatureScaler) -> Moments:
    """Sum up the training images, some thousand at a time."""
    width, seen = task.train.features.shape[1], len(task.seen_classes)
    class_attributes = task.class_attributes[task.seen_classes].double()
    gram = class_attributes.new_zeros(width, width)
    class_sums = class_attributes.new_zeros(seen, width)
    class_counts = class_attributes.new_zeros(seen)
    positions = class_positions(task)
    for chosen in torch.arange(len(positions), device=positions.device).split(_ROWS_AT_ONCE):
        features = scaler(task.train.features[task.train.rows[chosen]]).double()
        # A product, since adding rows by their class is not repeatable on a GPU.
        indicators = F.one_hot(positions[chosen], seen).double()
        gram.addmm_(features.mT, features)
        class_sums.addmm_(indicators.mT, features)
        class_counts += indicators.sum(0)
    return Moments(gram, class_sums, class_counts, class_attributes)
