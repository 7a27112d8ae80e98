"""The losses of MIANet (paper, section 3), each with its derivative: pure functions of tensors.

All take several executions at once, and return a loss for each. Padding images have weight 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mianet.processor import product

COSINE_FLOOR = 1e-2
"""Below this probability the logarithm of eq. 1 continues as its tangent; see docs/method.md."""

Losses = Float[Tensor, " executions"]
Images = Float[Tensor, "executions images"]
Values = Float[Tensor, "executions rows values"]


def log_with_linear_tail(probability: Tensor, floor: float = COSINE_FLOOR) -> tuple[Tensor, Tensor]:
    """Return ``log(p)``, continued below ``floor`` by its tangent there, and its derivative.

    The logarithm is undefined at ``p ≤ 0``, which a cosine can reach; clamping would remove the
    gradient of exactly the worst pairs. The tangent keeps the value and the slope continuous and
    pulls a pair with a negative cosine as hard as one at the floor.
    """
    kept = probability.clamp_min(floor)
    return kept.log().add_(probability - kept, alpha=1 / floor), kept.reciprocal()


def matching(
    positive_cosines: Images, negative_cosines: Images, weights: Images
) -> tuple[Losses, Images, Images]:
    """Return ``L_orf``, the cross-entropy of matched and unmatched pairs, and its derivatives.

    ``-1/n Σ m log(vᵀs) + (1-m) log(1-vᵀs)`` over the n = 2 × images balanced pairs (eq. 1).

    Args:
        positive_cosines: Cosine of each image with its own class.
        negative_cosines: Cosine of each image with another class.
        weights: 1 for an image, 0 for a padding row.

    Returns:
        The loss of each execution, and its derivatives by the two kinds of cosine.
    """
    share = weights / (2 * weights.sum(1, keepdim=True))
    logs, slopes = log_with_linear_tail(torch.stack([positive_cosines, 1 - negative_cosines]))
    matched, unmatched = slopes.mul_(share)
    return -(share * logs).sum((0, 2)), matched.neg_(), unmatched


def orthogonality(
    semantic_latents: Float[Tensor, "executions classes latent"],
) -> tuple[Losses, Float[Tensor, "executions classes classes"]]:
    """Return ``L_ors``: the mean over the entries of ``(AᵀA − I)²`` (eq. 2).

    A has the unnormalised semantic latent of each of C classes. Also return ``AᵀA − I``: the
    gradient by the latents is its product with them, times ``4 / C²``.
    """
    excess = product(semantic_latents, semantic_latents.mT)
    excess.diagonal(dim1=1, dim2=2).sub_(1)
    return excess.square().mean((1, 2)), excess


def modality(
    logits: Float[Tensor, "executions rows 2"],
    signs: Float[Tensor, " rows"],
    share: Float[Tensor, "executions rows"],
) -> tuple[Losses, Float[Tensor, "executions rows 2"]]:
    """Return ``L_dis``, the cross-entropy of telling the modalities apart, and its gradient.

    Eq. 3-4: the mean over the 2n latents of n positive pairs.

    Args:
        logits: Column 0 stands for visual, 1 for semantic.
        signs: 1 for a visual latent, -1 for a semantic one.
        share: The share of the 2n latents that a row stands for.
    """
    right = (logits[..., 0] - logits[..., 1]) * signs  # log-odds of the modality it is
    slope = share * signs * (-right).sigmoid()
    return -(share * F.logsigmoid(right)).sum(1), torch.stack([-slope, slope], -1)


def reconstruction(
    rebuilt: Values, weights: Float[Tensor, "executions rows"], sums: Values, squares: Losses
) -> tuple[Losses, Values]:
    """Return one half of ``L_rec``, the mean of (rebuilt − original)² (eq. 5), and its gradient.

    The mean is over the values of all originals, as in ``mse_loss``. A row may stand for all images
    of a class, since their reconstructions are the same.

    Args:
        rebuilt: The reconstructions.
        weights: How many originals a row stands for.
        sums: The sum of a row's originals.
        squares: The sum of the squares of all originals.
    """
    values = weights.sum(1) * rebuilt.shape[2]
    half = (weights[..., None] * rebuilt).sub_(sums)
    loss = ((rebuilt * (half - sums)).sum((1, 2)) + squares) / values
    return loss, half.mul_((2 / values)[:, None, None])
