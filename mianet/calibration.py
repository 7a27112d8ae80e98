"""Calibrated stacking: take a constant off the scores of seen classes (Chao et al., 2016).

A model that is trained on seen classes only prefers them. Chao et al. ("An Empirical Study and
Analysis of Generalized Zero-Shot Learning for Object Recognition in the Wild", ECCV 2016) subtract
a constant c from the scores of seen classes. An image whose best seen class has the score s and
whose best unseen class has u is then given an unseen class where c > s − u, its *gap*. So ts and tr
are step functions of c that change at gaps only, and everything about them is exact: no grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64

from mianet.config import Hyperparameters
from mianet.data.search_data import SearchData
from mianet.evaluation import Scored, score
from mianet.protocol import validation_tasks
from mianet.training import train
from mianet.validation import execution_seed


@dataclass(frozen=True)
class SeenUnseenCurve:
    """ts and tr as functions of the constant: b breakpoints, constant on b + 1 intervals.

    Attributes:
        breakpoints: Where one of the two changes, ascending and distinct.
        seen_accuracy: tr on (−∞, first), between two breakpoints, …, (last, ∞); it falls.
        unseen_accuracy: ts on the same intervals; it rises from 0.
    """

    breakpoints: Float64[np.ndarray, " breakpoints"]
    seen_accuracy: Float64[np.ndarray, " intervals"]
    unseen_accuracy: Float64[np.ndarray, " intervals"]

    @property
    def area(self) -> float:
        """Return AUSUC, the area under tr as a function of ts, a fraction of 1."""
        return float(np.trapezoid(self.seen_accuracy, self.unseen_accuracy))

    def at(
        self, constants: Float64[np.ndarray, " constants"]
    ) -> tuple[Float64[np.ndarray, " constants"], Float64[np.ndarray, " constants"]]:
        """Return tr and ts at constants; at a breakpoint, those of the interval above it."""
        interval = np.searchsorted(self.breakpoints, constants, side="right")
        return self.seen_accuracy[interval], self.unseen_accuracy[interval]

    def harmonic_mean(
        self, constants: Float64[np.ndarray, " constants"]
    ) -> Float64[np.ndarray, " constants"]:
        """Return H at constants."""
        return _harmonic_mean(*self.at(constants))


@dataclass(frozen=True)
class Calibration:
    """A constant chosen on validation, and what it does there (means over the executions).

    Attributes:
        constant: What to subtract from the scores of seen classes.
        seen_accuracy: tr at the constant.
        unseen_accuracy: ts at the constant.
        harmonic_mean: The mean of the executions' H at the constant; no constant has a higher one.
        area: AUSUC, which does not depend on the constant.
    """

    constant: float
    seen_accuracy: float
    unseen_accuracy: float
    harmonic_mean: float
    area: float


def seen_unseen_curve(
    seen_scores: Float32[np.ndarray, "seen_images classes"],
    seen_labels: Int64[np.ndarray, " seen_images"],
    unseen_scores: Float32[np.ndarray, "unseen_images classes"],
    unseen_labels: Int64[np.ndarray, " unseen_images"],
    unseen: Bool[np.ndarray, " classes"],
) -> SeenUnseenCurve:
    """Return ts and tr, both per-class, at every constant.

    Args:
        seen_scores: Scores of held-out images of seen classes, without calibration.
        seen_labels: Their classes, columns of the scores.
        unseen_scores: Scores of images of unseen classes.
        unseen_labels: Their classes.
        unseen: Which classes are unseen.
    """
    falls, lost = _hits(seen_scores, seen_labels, unseen, among=~unseen)
    rises, won = _hits(unseen_scores, unseen_labels, unseen, among=unseen)
    breakpoints = np.unique(np.concatenate([falls, rises]))
    return SeenUnseenCurve(
        breakpoints,
        seen_accuracy=_total_up_to(falls, lost, breakpoints, left=lost.sum()),
        unseen_accuracy=_total_up_to(rises, -won, breakpoints, left=0.0),
    )


def curve_of(scored: Scored) -> SeenUnseenCurve:
    """Return the curve of scored images."""
    classes = np.arange(scored.seen_scores.shape[1])
    return seen_unseen_curve(
        scored.seen_scores.cpu().numpy(),
        scored.seen.own_labels.cpu().numpy(),
        scored.unseen_scores.cpu().numpy(),
        scored.unseen.own_labels.cpu().numpy(),
        np.isin(classes, scored.unseen_classes.cpu().numpy()),
    )


def choose_constant(curves: Sequence[SeenUnseenCurve]) -> Calibration:
    """Return the constant with the highest mean over executions of H: the search's own objective.

    The mean changes at the breakpoints of any execution only, so all its values are looked at. Of
    the intervals where it is highest the widest is taken, and of that the middle, so that the
    constant is as far as can be from where images change sides. It is 0 where no constant gives an
    H above 0.

    Args:
        curves: One an execution.
    """
    breakpoints = np.unique(np.concatenate([curve.breakpoints for curve in curves]))
    middles = (breakpoints[:-1] + breakpoints[1:]) / 2
    mean = np.mean([curve.harmonic_mean(middles) for curve in curves], axis=0)
    constant = 0.0
    if mean.max(initial=0.0) > 0:
        widths = np.where(mean == mean.max(), np.diff(breakpoints), -1.0)
        constant = float(middles[widths.argmax()])
    return at_constant(curves, constant)


def at_constant(curves: Sequence[SeenUnseenCurve], constant: float) -> Calibration:
    """Return the means over curves of the figures at a constant."""
    there = np.array([constant])
    accuracies = np.array([curve.at(there) for curve in curves])[..., 0]
    return Calibration(
        constant,
        seen_accuracy=float(accuracies[:, 0].mean()),
        unseen_accuracy=float(accuracies[:, 1].mean()),
        harmonic_mean=float(np.mean([curve.harmonic_mean(there) for curve in curves])),
        area=float(np.mean([curve.area for curve in curves])),
    )


def validation_curve(
    data: SearchData,
    settings: Hyperparameters,
    *,
    epochs: int,
    execution: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> SeenUnseenCurve:
    """Train a validation execution again, and return its curve after some epochs.

    It is the execution that a search of this seed had: same draw, same training. Neither test
    images nor unseen classes take part.

    Raises:
        DivergedError: The training left the finite numbers.
    """
    tasks = validation_tasks(data, executions=execution + 1, seed=seed, device=torch.device(device))
    task = tasks[execution]
    *_, last = train(task, settings, epochs=epochs, seed=execution_seed(seed, execution))

    return curve_of(score(last.model, last.scaler, task))


def _hits(
    scores: Float32[np.ndarray, "images classes"],
    labels: Int64[np.ndarray, " images"],
    unseen: Bool[np.ndarray, " classes"],
    *,
    among: Bool[np.ndarray, " classes"],
) -> tuple[Float64[np.ndarray, " hits"], Float64[np.ndarray, " hits"]]:
    """Return gap and weight of the images whose best class on their own side is the right one.

    The weights of a class's images add up to 1 / (number of classes with images).
    """
    own = np.flatnonzero(among)
    hit = own[scores[:, own].argmax(axis=1)] == labels
    # Differences of float32 numbers are exact in double precision.
    gaps = scores[:, ~unseen].max(axis=1).astype(np.float64) - scores[:, unseen].max(axis=1)
    _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = 1 / (counts[index] * len(counts))
    return gaps[hit], weights[hit]


def _total_up_to(
    places: Float64[np.ndarray, " hits"],
    weights: Float64[np.ndarray, " hits"],
    breakpoints: Float64[np.ndarray, " breakpoints"],
    *,
    left: float,
) -> Float64[np.ndarray, " intervals"]:
    """Return ``left`` less the weights passed, on the interval left of all and after each."""
    index = np.searchsorted(breakpoints, places)
    passed = np.bincount(index, weights, minlength=len(breakpoints)).cumsum()
    return np.concatenate([[left], np.clip(left - passed, 0.0, 1.0)])


def _harmonic_mean(
    seen: Float64[np.ndarray, " _"], unseen: Float64[np.ndarray, " _"]
) -> Float64[np.ndarray, " _"]:
    total = seen + unseen
    return np.asarray(2 * seen * unseen / np.where(total > 0, total, 1))
