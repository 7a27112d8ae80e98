"""Feature scaling, fitted on training images only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

_ROWS_AT_ONCE = 4096


class FeatureScaler(nn.Module):
    """Scales features as ``(x − shift) × factor``, or to unit L2 norm.

    It is a module, so that it moves between devices with its model.
    """

    shift: Tensor
    factor: Tensor

    def __init__(self, kind: str, feature_dim: int) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("shift", torch.zeros(feature_dim))
        self.register_buffer("factor", torch.ones(feature_dim))

    @classmethod
    def fit(
        cls, kind: str, features: Float[Tensor, "images features"], rows: Int64[Tensor, " rows"]
    ) -> FeatureScaler:
        """Fit on the given rows; a feature that is constant on them is only shifted.

        Args:
            kind: ``"none"``, ``"global"`` (mean 0, one factor for all features, so that they keep
                their proportions), ``"standard"`` (each to mean 0, deviation 1), ``"minmax"``
                (each to 0..1) or ``"l2"`` (each image to unit norm; nothing is fitted).
            features: All images.
            rows: The training images among them.
        """
        scaler = cls(kind, features.shape[1]).to(features.device)
        if kind == "minmax":
            chunks = [features[part] for part in rows.split(_ROWS_AT_ONCE)]
            shift = torch.stack([chunk.amin(0) for chunk in chunks]).amin(0)
            spread = torch.stack([chunk.amax(0) for chunk in chunks]).amax(0) - shift
        elif kind in ("standard", "global"):
            shift, spread = _moments(features, rows)
            if kind == "global":
                spread = spread.square().mean().sqrt().expand_as(shift)
        else:
            return scaler
        scaler.shift = shift
        scaler.factor = torch.where(spread > 1e-8, 1 / spread.clamp_min(1e-8), 1.0)
        return scaler

    def forward(
        self, features: Float[Tensor, "images features"]
    ) -> Float[Tensor, "images features"]:
        """Return the scaled features, as a new tensor unless there is nothing to do."""
        return scaled(self.kind, features, self.shift, self.factor)


def scaled(
    kind: str,
    features: Float[Tensor, "*executions images features"],
    shift: Float[Tensor, "*#rows features"],
    factor: Float[Tensor, "*#rows features"],
) -> Float[Tensor, "*executions images features"]:
    """Return scaled features, of several executions too: see ``FeatureScaler``.

    Args:
        kind: One of ``FeatureScaling``.
        features: Unscaled features.
        shift: Subtracted from each feature.
        factor: Multiplies the difference.
    """
    if kind == "none":
        return features
    if kind == "l2":
        return F.normalize(features, dim=-1)
    return (features - shift).mul_(factor)


def _moments(features: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return each feature's mean and standard deviation, in two passes in double precision."""
    chunks = rows.split(_ROWS_AT_ONCE)
    total = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    for part in chunks:
        total += features[part].double().sum(0)
    mean = total / len(rows)
    squares = torch.zeros_like(total)
    for part in chunks:
        squares += (features[part].double() - mean).square().sum(0)
    return mean.float(), (squares / len(rows)).sqrt().float()
