"""The field's metrics: per-class accuracies and their harmonic mean (section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mianet.prediction import Scorer, class_scores
from mianet.protocol import Part, Task
from mianet.scaling import FeatureScaler


@dataclass(frozen=True)
class Metrics:
    """The four figures of the field, as fractions of 1.

    Attributes:
        unseen_accuracy: ts, per-class top-1 of unseen classes' images among all classes.
        seen_accuracy: tr, per-class top-1 of seen classes' images among all classes.
        harmonic_mean: H of the two.
        zsl_accuracy: T1, per-class top-1 of unseen classes' images among the unseen classes.
    """

    unseen_accuracy: float
    seen_accuracy: float
    harmonic_mean: float
    zsl_accuracy: float

    def as_dict(self, prefix: str = "") -> dict[str, float]:
        """Return prefix + name → value."""
        return {prefix + f.name: getattr(self, f.name) for f in fields(self)}


def evaluate(model: Scorer, scaler: FeatureScaler, task: Task) -> Metrics:
    """Score the held-out parts of a task, validation or test alike."""
    unseen = _scores(model, scaler, task.heldout_unseen, task)
    unseen_labels = task.heldout_unseen.labels[task.heldout_unseen.rows]
    seen = _scores(model, scaler, task.heldout_seen, task)
    seen_labels = task.heldout_seen.labels[task.heldout_seen.rows]
    among_unseen = task.unseen_classes[unseen[:, task.unseen_classes].argmax(1)]
    ts = per_class_top1(unseen.argmax(1), unseen_labels)
    tr = per_class_top1(seen.argmax(1), seen_labels)
    return Metrics(ts, tr, harmonic_mean(tr, ts), per_class_top1(among_unseen, unseen_labels))


def per_class_top1(predicted: Int64[Tensor, " images"], labels: Int64[Tensor, " images"]) -> float:
    """Return the mean over the classes present in ``labels`` of the share predicted rightly."""
    counts = torch.bincount(labels)
    hits = torch.bincount(labels[predicted == labels], minlength=len(counts))
    present = counts > 0
    return (hits[present].double() / counts[present]).mean().item()


def harmonic_mean(seen_accuracy: float, unseen_accuracy: float) -> float:
    """Return H = 2·tr·ts / (tr + ts), 0 where both are 0."""
    total = seen_accuracy + unseen_accuracy
    return 2 * seen_accuracy * unseen_accuracy / total if total else 0.0


def mean_metrics(metrics: Sequence[Metrics]) -> Metrics:
    """Return the mean of each figure; H is the mean of the H's, not the H of the means."""
    return Metrics(
        **{f.name: sum(getattr(m, f.name) for m in metrics) / len(metrics) for f in fields(Metrics)}
    )


def _scores(
    model: Scorer, scaler: FeatureScaler, part: Part, task: Task
) -> Float[Tensor, "images classes"]:
    return class_scores(model, scaler, part.features[part.rows], task.class_attributes)
