"""The weights of several same-shaped models in one block, and the Adam that updates them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# PyTorch's wrappers of these two load its compiler, which takes a second, only to disable it.
_step = inspect.unwrap(torch.optim.Adam.step)
_add = inspect.unwrap(torch.optim.Optimizer.add_param_group)
setattr(_add, "__dynamo_disable", _add)

_ALIGNMENT = 16
"""Weights start at multiples of this many numbers: a cache line in single precision."""


class Weights:
    """Weights of same-shaped models, one row of a block per model, with gradients and an Adam.

    The models' parameters become views of the block: updating one updates the other. An optimiser
    step makes one pass over one row of memory instead of visiting a dozen tensors.

    Args:
        models: Models of equal shape on one device.
        names: Which of their parameters to include.
        learning_rate: Adam's step size.
        rounded: Whether products use a bfloat16 copy of the matrices. The optimiser updates those
            in single precision.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        names: Sequence[str],
        learning_rate: float,
        *,
        rounded: bool = False,
    ) -> None:
        parameters = [dict(model.named_parameters()) for model in models]
        self._shapes = {name: parameters[0][name].shape for name in names}
        like = parameters[0][names[0]]
        width = sum(_aligned(shape.numel()) for shape in self._shapes.values())
        self._block = like.new_zeros(len(models), width)
        self._gradient = torch.zeros_like(self._block)
        for own, views in zip(parameters, map(self._split, self._block), strict=True):
            for name, view in views.items():
                view.copy_(own[name].detach())
                own[name].data = view
        self._rounded = self._block.bfloat16() if rounded else None
        self._views: dict[int, tuple[dict[str, Tensor], dict[str, Tensor]]] = {}
        self._rows = [nn.Parameter(row) for row in self._block]
        self.optimizer = torch.optim.Adam(
            self._rows, lr=learning_rate, fused=True, capturable=like.device.type == "cuda"
        )

    def values(self, models: int) -> dict[str, Tensor]:
        """Return name → the first models' weights, one row per model, as products use them."""
        return self._views_of(models)[0]

    def gradients(self, models: int) -> dict[str, Tensor]:
        """Return name → the gradient buffers of the first models, one row per model."""
        return self._views_of(models)[1]

    def step(self, models: int) -> None:
        """Update the first models by their gradients; leave the others untouched."""
        for number, (row, gradient) in enumerate(zip(self._rows, self._gradient, strict=True)):
            row.grad = gradient if number < models else None
        with torch.no_grad():
            _step(self.optimizer)
        self._round(slice(models))

    def state(self, model: int) -> dict[str, Any]:
        """Return what a model's next step depends on; the tensors are the live ones."""
        return {"values": self._block[model], **self.optimizer.state.get(self._rows[model], {})}

    def restore(self, model: int, state: Mapping[str, Any]) -> None:
        """Restore a copy of what ``state`` of an identical model returned."""
        self._block[model].copy_(state["values"])
        self._round(slice(model, model + 1))
        moments = {name: value for name, value in state.items() if name != "values"}
        if moments:
            device = self._block.device
            self.optimizer.state[self._rows[model]] = {
                name: value.to(device, copy=True) for name, value in moments.items()
            }

    def _views_of(self, models: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        if models not in self._views:
            values, gradients = (self._split(b[:models]) for b in (self._block, self._gradient))
            if self._rounded is not None:
                rounded = self._split(self._rounded[:models])
                values |= {name: rounded[name] for name in rounded if name.endswith(".weight")}
            self._views[models] = (values, gradients)
        return self._views[models]

    def _round(self, models: slice) -> None:
        if self._rounded is not None:
            self._rounded[models].copy_(self._block[models])

    def _split(self, block: Tensor) -> dict[str, Tensor]:
        views, start = {}, 0
        for name, shape in self._shapes.items():
            views[name] = block[..., start : start + shape.numel()].unflatten(-1, shape)
            start += _aligned(shape.numel())
        return views


def _aligned(numbers: int) -> int:
    return -(-numbers // _ALIGNMENT) * _ALIGNMENT
