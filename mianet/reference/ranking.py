"""ALE, DeViSE and SJE: a bilinear compatibility that ranks an image's class above the others.

- ALE: Z. Akata, F. Perronnin, Z. Harchaoui and C. Schmid, "Label-embedding for image
  classification", TPAMI 2016 (CVPR 2013).
- DeViSE: A. Frome et al., "DeViSE: a deep visual-semantic embedding model", NIPS 2013.
- SJE: Z. Akata, S. Reed, D. Walter, H. Lee and B. Schiele, "Evaluation of output embeddings for
  fine-grained image classification", CVPR 2015.

They differ in the cost of a violated rank; see Y. Xian, C. H. Lampert, B. Schiele and Z. Akata,
"Zero-shot learning: a comprehensive evaluation of the good, the bad and the ugly", TPAMI 2018,
section 3.1. None has a regulariser, and the margin is 1: a margin m at m times the learning rate
only scales W by m.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mianet.errors import DivergedError
from mianet.model import Scores
from mianet.protocol import Task
from mianet.reference.least_squares import Bilinear
from mianet.reference.repeated import Repeated
from mianet.reference.settings import RankingSettings
from mianet.scaling import FeatureScaler
from mianet.training import Epoch, class_positions

Costs = Callable[[Scores], Scores]


def weighted_by_rank(violations: Scores) -> Scores:
    """Return ALE's weights ``l_r / r``, where r classes violate and ``l_r = Σ_{i ≤ r} 1/i``."""
    violated = (violations > 0).to(violations.dtype)
    rank = violated.sum(1).long()
    places = torch.arange(1, violations.shape[1] + 1, device=violations.device)
    penalties = torch.cumsum(1 / places.to(violations.dtype), 0) / places
    return violated * penalties[(rank - 1).clamp_min(0)][:, None]


def unweighted(violations: Scores) -> Scores:
    """Return DeViSE's weights: 1 for every violation."""
    return (violations > 0).to(violations.dtype)


def largest_only(violations: Scores) -> Scores:
    """Return SJE's weights: 1 for the largest violation of an image."""
    largest = violations.argmax(1, keepdim=True)
    return torch.zeros_like(violations).scatter(1, largest, 1) * (violations > 0)


COSTS: Mapping[str, Costs] = {"ale": weighted_by_rank, "devise": unweighted, "sje": largest_only}
"""Model → how much each violation of an image counts."""


def ranking_loss(
    scores: Scores, classes: Int64[Tensor, " images"], costs: Costs
) -> tuple[Float[Tensor, ""], Scores]:
    """Return the mean over images of ``Σ_y w_y [1 + F(x, y) − F(x, y_x)]₊`` and its gradient.

    Args:
        scores: F, the compatibilities with all seen classes.
        classes: ``y_x``, the class of each image.
        costs: Violations → their weights w, which are treated as constants.
    """
    own = classes[:, None]
    violations = (1 + scores - scores.gather(1, own)).scatter(1, own, 0).clamp_min(0)
    weights = costs(violations) / len(scores)
    gradient = weights.scatter(1, own, -weights.sum(1, keepdim=True))
    return (weights * violations).sum(), gradient


def train(task: Task, settings: RankingSettings, *, seed: int) -> Iterator[Epoch]:
    """Minimise the ranking loss by gradient descent, yielding after each epoch, endlessly.

    The seed determines the order of the images, the only randomness.

    Args:
        task: The images and classes.
        settings: The model's hyperparameters.
        seed: Seed of the order of the images.

    Raises:
        DivergedError: The loss of the epoch is NaN or infinite.
    """
    features, rows, classes = task.train.features, task.train.rows, class_positions(task)
    scaler = FeatureScaler.fit(settings.feature_scaling, features, rows)
    seen_attributes = task.class_attributes[task.seen_classes]
    weight = features.new_zeros(features.shape[1], seen_attributes.shape[1])
    generator = torch.Generator(features.device).manual_seed(seed)
    for number in itertools.count(1):
        total = features.new_zeros(())
        order = torch.randperm(len(rows), generator=generator, device=features.device)
        for chosen in order.split(settings.batch_images):
            batch = scaler(features.index_select(0, rows[chosen]))
            scores = batch @ weight @ seen_attributes.mT
            loss, gradient = ranking_loss(scores, classes[chosen], COSTS[settings.model])
            weight.addmm_(batch.mT, gradient @ seen_attributes, alpha=-settings.learning_rate)
            total += loss * len(chosen)
        mean = total.item() / len(rows)
        if not math.isfinite(mean):
            raise DivergedError(f"the ranking loss is not finite after epoch {number}")
        yield Epoch(number, {"ranking": mean}, Bilinear(weight), scaler)


begin_ranking = partial(Repeated, train)
