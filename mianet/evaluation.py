"""The field's metrics: per-class accuracies and their harmonic mean (section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from mianet.inference.prediction import Scorer, class_scores
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

    @classmethod
    def of(cls, accuracies: Sequence[float]) -> Metrics:
        """Return the figures of the ``Scored.accuracies`` ts, tr and T1."""
        ts, tr, t1 = accuracies
        return cls(ts, tr, harmonic_mean(tr, ts), t1)

    def as_dict(self, prefix: str = "") -> dict[str, float]:
        """Return prefix + name → value."""
        return {prefix + f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Scored:
    """Held-out images of a task with a score for every class of its world.

    Attributes:
        seen_scores: Of the images of seen classes.
        unseen_scores: Of the images of unseen classes.
        seen: The images of seen classes.
        unseen: The images of unseen classes.
        unseen_classes: The unseen classes.
    """

    seen_scores: Float[Tensor, "seen_images classes"]
    unseen_scores: Float[Tensor, "unseen_images classes"]
    seen: Part
    unseen: Part
    unseen_classes: Int64[Tensor, " unseen"]

    @property
    def metrics(self) -> Metrics:
        """Return the figures of the field."""
        return Metrics.of(self.accuracies.tolist())

    @property
    def accuracies(self) -> Float64[Tensor, " accuracies"]:
        """Return ts, tr and T1 on the device, without waiting for it."""
        among_unseen = self.unseen_scores[:, self.unseen_classes].argmax(1)
        ts = per_class_top1(self.unseen_scores.argmax(1), self.unseen)
        tr = per_class_top1(self.seen_scores.argmax(1), self.seen)
        t1 = per_class_top1(self.unseen_classes[among_unseen], self.unseen)
        return torch.stack([ts, tr, t1])

    @property
    def confusion(self) -> Int64[Tensor, "classes classes"]:
        """Return how many images of each class (row) are taken for each (column), among all."""
        labels = torch.cat([self.seen.own_labels, self.unseen.own_labels])
        predicted = torch.cat([self.seen_scores.argmax(1), self.unseen_scores.argmax(1)])
        classes = self.seen_scores.shape[1]
        pairs = torch.bincount(labels * classes + predicted, minlength=classes**2)
        return pairs.reshape(classes, classes)


def score(model: Scorer, scaler: FeatureScaler, task: Task) -> Scored:
    """Score the held-out parts of a task, validation or test alike."""

    def scored(part: Part) -> Tensor:
        return class_scores(model, scaler, part.features[part.rows], task.class_attributes)

    seen, unseen = task.heldout_seen, task.heldout_unseen
    return Scored(scored(seen), scored(unseen), seen, unseen, task.unseen_classes)


def evaluate(model: Scorer, scaler: FeatureScaler, task: Task) -> Metrics:
    """Score the held-out parts of a task, and return the figures of the field."""
    return score(model, scaler, task).metrics


def per_class_top1(predicted: Int64[Tensor, " images"], part: Part) -> Float64[Tensor, ""]:
    """Return the mean over the classes present in a part of the share predicted rightly."""
    labels, counts = part.own_labels, part.class_counts
    hits = torch.zeros_like(counts).scatter_add_(0, labels, (predicted == labels).long())
    return (hits.double() / counts.clamp_min(1)).sum() / counts.count_nonzero()


def harmonic_mean(seen_accuracy: float, unseen_accuracy: float) -> float:
    """Return H = 2·tr·ts / (tr + ts), 0 where both are 0."""
    total = seen_accuracy + unseen_accuracy
    return 2 * seen_accuracy * unseen_accuracy / total if total else 0.0


def mean_metrics(metrics: Sequence[Metrics]) -> Metrics:
    """Return the mean of each figure; H is the mean of the H's, not the H of the means."""
    return Metrics(
        **{f.name: sum(getattr(m, f.name) for m in metrics) / len(metrics) for f in fields(Metrics)}
    )
