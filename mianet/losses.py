"""The four losses of MIANet, each a pure function of tensors (paper, section 3)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx

COSINE_FLOOR = 1e-2
"""Below this probability the logarithm of eq. 1 goes on as its tangent; see docs/method.md."""


def log_with_linear_tail(probability: Tensor, floor: float = COSINE_FLOOR) -> Tensor:
    """Return ``log(p)``, continued below ``floor`` by its tangent there.

    The logarithm is undefined at ``p ≤ 0``, where a cosine can be; clamping it would take the
    gradient away exactly from the worst pairs. The tangent keeps the value and the slope
    continuous and pulls a pair with a negative cosine as hard as one at the floor.
    """
    tail = math.log(floor) + (probability - floor) / floor
    return torch.where(probability >= floor, probability.clamp_min(floor).log(), tail)


def matching_loss(
    positive_cosines: Float[Tensor, " images"], negative_cosines: Float[Tensor, " images"]
) -> Float[Tensor, ""]:
    """Return ``L_orf``, the binary cross-entropy of matched and unmatched pairs (eq. 1).

    ``-1/n Σ m log(vᵀs) + (1-m) log(1-vᵀs)`` over the n = 2 × images balanced pairs.
    """
    log_likelihood = (
        log_with_linear_tail(positive_cosines).sum()
        + log_with_linear_tail(1 - negative_cosines).sum()
    )
    return -log_likelihood / (len(positive_cosines) + len(negative_cosines))


def orthogonality_loss(semantic_latents: Float[Tensor, "classes latent"]) -> Float[Tensor, ""]:
    """Return ``L_ors = ‖AᵀA − I‖²_F`` of the unnormalised semantic latents, one a class (eq. 2)."""
    loss: Tensor = _Orthogonality.apply(semantic_latents)  # type: ignore[no-untyped-call]
    return loss


class _Orthogonality(torch.autograd.Function):
    """Eq. 2 with its gradient ``4 (A Aᵀ − I) A``: one product, where autograd would form two."""

    @staticmethod
    def forward(ctx: FunctionCtx, latents: Tensor) -> Tensor:
        excess = latents @ latents.mT
        excess.diagonal().sub_(1)
        ctx.save_for_backward(latents, excess)
        return excess.flatten().dot(excess.flatten())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        latents, excess = ctx.saved_tensors
        product: Tensor = excess @ latents
        return product.mul_(4 * gradient)


def modality_loss(
    visual_logits: Float[Tensor, "images 2"], semantic_logits: Float[Tensor, "images 2"]
) -> Float[Tensor, ""]:
    """Return ``L_dis``, the cross-entropy of telling the modalities apart (eq. 3-4).

    The mean over the 2n latents of n positive pairs; column 0 stands for visual, 1 for semantic.
    """
    visual = F.log_softmax(visual_logits, dim=-1)[:, 0]
    semantic = F.log_softmax(semantic_logits, dim=-1)[:, 1]
    return -(visual.sum() + semantic.sum()) / (len(visual) + len(semantic))


def reconstruction_loss(
    rebuilt: Float[Tensor, "images values"], original: Float[Tensor, "images values"]
) -> Float[Tensor, ""]:
    """Return one half of ``L_rec``: ``‖rebuilt − original‖²_F``, a sum over the images (eq. 5)."""
    return (rebuilt - original).square().sum()
