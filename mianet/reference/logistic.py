"""Regularised logistic regression, by L-BFGS on all images at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mianet.errors import DivergedError
from mianet.protocol import Task
from mianet.scaling import FeatureScaler

_MOST_ITERATIONS = 100
_GRADIENT_TOLERANCE = 1e-5
_CHANGE_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Linear:
    """The logits ``x W + b``."""

    weight: Float[Tensor, "features outputs"]
    bias: Float[Tensor, " outputs"]

    def logits(self, features: Float[Tensor, "images features"]) -> Float[Tensor, "images outputs"]:
        """Return the logits of scaled features."""
        return torch.addmm(self.bias, features, self.weight)


def fit_linear(
    task: Task,
    scaler: FeatureScaler,
    outputs: int,
    loss: Callable[[Float[Tensor, "images outputs"]], Float[Tensor, ""]],
    weight_decay: float,
) -> tuple[Linear, float]:
    """Minimise ``loss(X W + b) + weight_decay / 2 · ‖W‖²`` over the training images, from 0.

    Args:
        task: Whose training images.
        scaler: What scales them.
        outputs: Columns of W.
        loss: A convex function of the logits of the training images, in their order.
        weight_decay: The regulariser; the bias has none.

    Returns:
        The regression, and the loss that it reaches, without the regulariser.

    Raises:
        DivergedError: The regression is not finite.
    """
    features = scaler(task.train.features[task.train.rows])
    weight = features.new_zeros(features.shape[1], outputs, requires_grad=True)
    bias = features.new_zeros(outputs, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_MOST_ITERATIONS,
        tolerance_grad=_GRADIENT_TOLERANCE,
        tolerance_change=_CHANGE_TOLERANCE,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimiser.zero_grad()
        fit = loss(torch.addmm(bias, features, weight))
        total: Tensor = fit + weight_decay / 2 * weight.square().sum()
        total.backward()
        if not (total.isfinite() and weight.grad is not None and weight.grad.isfinite().all()):
            raise DivergedError("the logistic regression is not finite")  # L-BFGS would go astray
        return total

    optimiser.step(objective)
    fitted = Linear(weight.detach(), bias.detach())
    reached = loss(fitted.logits(features))
    if not (reached.isfinite() and fitted.weight.isfinite().all()):
        raise DivergedError("the logistic regression is not finite")
    return fitted, reached.item()
