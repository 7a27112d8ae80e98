"""Calibrated stacking: subtract a constant from the scores of seen classes.

W.-L. Chao et al., "An Empirical Study and Analysis of Generalized Zero-Shot Learning for Object
Recognition in the Wild", ECCV 2016. An image whose best seen class scores s and whose best unseen
class scores u is assigned an unseen class if the constant is at least s − u, its *gap*. So ts and
tr change only at gaps, and everything about them is computed exactly, without a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

Number: TypeAlias = Float64[Tensor, ""]

_ROUNDING = 1e-12
"""Rounding error allowed in a sum of weights."""


@dataclass(frozen=True)
class Gaps:
    """What determines ts and tr at every constant: each held-out image's gap and weight.

    The weight of an image is its share of the per-class accuracy, 1 / (images of its class ×
    classes), if its best class on its own side (seen or unseen) is correct, else 0. The weights of
    ``seen`` sum to tr among the seen classes alone, those of ``unseen`` to T1.
    """

    seen: Float64[Tensor, " seen_images"]
    seen_weights: Float64[Tensor, " seen_images"]
    unseen: Float64[Tensor, " unseen_images"]
    unseen_weights: Float64[Tensor, " unseen_images"]

    @property
    def area(self) -> Number:
        """Return AUSUC, the area under tr as a function of ts.

        It is the weighted share of pairs of a seen and an unseen image in which the seen one's gap
        is larger; equal gaps count half, as in the trapezoidal rule.
        """
        gaps, order = self.seen.sort()
        passed = torch.cat([gaps.new_zeros(1), self.seen_weights[order].cumsum(0)])
        below = passed[torch.searchsorted(gaps, self.unseen)]
        up_to = passed[torch.searchsorted(gaps, self.unseen, right=True)]
        return (self.unseen_weights * (passed[-1] - (below + up_to) / 2)).sum()

    def at(self, constant: Number) -> tuple[Number, Number]:
        """Return tr and ts at a constant."""
        seen = (self.seen_weights * (self.seen > constant)).sum()
        return seen, (self.unseen_weights * (self.unseen <= constant)).sum()

    def cpu(self) -> Gaps:
        """Copy them to main memory, without the images of weight 0."""
        seen, unseen = self.seen_weights > 0, self.unseen_weights > 0
        return Gaps(
            self.seen[seen].cpu(),
            self.seen_weights[seen].cpu(),
            self.unseen[unseen].cpu(),
            self.unseen_weights[unseen].cpu(),
        )


def best_constant(executions: Sequence[Gaps]) -> tuple[Number, Float64[Tensor, " executions"]]:
    """Return the constant that maximises the mean H over executions, and the H's at it.

    The mean changes only at gaps, so it suffices to try the midpoints between neighbouring gaps of
    all executions. Of the intervals with the highest mean, the widest is chosen: its midpoint is
    farthest from where images change sides. The constant is 0 if none gives an H above 0. Nothing
    here waits for the device.
    """
    gaps = torch.cat([side for each in executions for side in (each.seen, each.unseen)])
    weights = torch.cat(
        [side for each in executions for side in (each.seen_weights, each.unseen_weights)]
    )
    sorted_gaps, order = gaps.where(weights > 0, torch.inf).sort()
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=gaps.device))
    seen, unseen, start = [], [], 0
    for each in executions:
        middle = start + len(each.seen)
        end = middle + len(each.unseen)
        lost = gaps.new_zeros(len(gaps)).scatter_(0, place[start:middle], each.seen_weights)
        won = gaps.new_zeros(len(gaps)).scatter_(0, place[middle:end], each.unseen_weights)
        seen.append(each.seen_weights.sum() - lost.cumsum(0))
        unseen.append(won.cumsum(0))
        start = end
    curves = harmonic(torch.stack(seen).clamp_min_(0), torch.stack(unseen))[:, :-1]
    width = sorted_gaps.diff()
    between = (width > 0) & sorted_gaps[1:].isfinite()
    mean = curves.mean(0).where(between, 0.0)
    best = width.where(between & (mean >= mean.amax() - _ROUNDING), -1.0).argmax()
    useful = mean[best] > 0
    constant = (sorted_gaps[best] + sorted_gaps[best + 1]) / 2
    return constant.where(useful, 0.0), curves[:, best].where(useful, 0.0)


def harmonic(seen: Float64[Tensor, "*_"], unseen: Float64[Tensor, "*_"]) -> Float64[Tensor, "*_"]:
    """Return H = 2·tr·ts / (tr + ts), 0 where both are 0."""
    total = seen + unseen
    return 2 * seen * unseen / total.where(total > 0, 1.0)


Constants: TypeAlias = Float64[np.ndarray, " constants"]


@dataclass(frozen=True)
class SeenUnseenCurve:
    """ts and tr as functions of the constant: b breakpoints, constant on b + 1 intervals."""

    # where ts or tr changes, ascending and distinct
    breakpoints: Float64[np.ndarray, " breakpoints"]
    # tr on (−∞, first), between two breakpoints, …, (last, ∞); falling
    seen_accuracy: Float64[np.ndarray, " intervals"]
    unseen_accuracy: Float64[np.ndarray, " intervals"]  # ts on the same intervals; rising from 0

    @property
    def area(self) -> float:
        """Return AUSUC, the area under tr as a function of ts, a fraction of 1."""
        return float(np.trapezoid(self.seen_accuracy, self.unseen_accuracy))

    def at(self, constants: Constants) -> tuple[Constants, Constants]:
        """Return tr and ts at constants; at a breakpoint, those of the interval above it."""
        interval = np.searchsorted(self.breakpoints, constants, side="right")
        return self.seen_accuracy[interval], self.unseen_accuracy[interval]


def seen_unseen_curve(gaps: Gaps) -> SeenUnseenCurve:
    """Return ts and tr of an execution at every constant."""
    kept = gaps.cpu()
    seen, unseen, lost = kept.seen.numpy(), kept.unseen.numpy(), kept.seen_weights.numpy()
    breakpoints = np.unique(np.concatenate([seen, unseen]))

    def after(start: float, places: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return ``start`` minus the weights passed, before all breakpoints and after each."""
        index = np.searchsorted(breakpoints, places)
        passed = np.bincount(index, weights, minlength=len(breakpoints)).cumsum()
        return np.concatenate([[start], np.clip(start - passed, 0.0, 1.0)])

    return SeenUnseenCurve(
        breakpoints,
        seen_accuracy=after(lost.sum(), seen, lost),
        unseen_accuracy=after(0.0, unseen, -kept.unseen_weights.numpy()),
    )
