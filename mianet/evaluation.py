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


@dataclass(frozen=True)
class Scored:
    """Held-out images of a task with a score for every class of its world.

    Attributes:
        seen_scores: Of the images of seen classes.
        seen_labels: Their classes.
        unseen_scores: Of the images of unseen classes.
        unseen_labels: Their classes.
        unseen_classes: The unseen classes.
    """

    seen_scores: Float[Tensor, "seen_images classes"]
    seen_labels: Int64[Tensor, " seen_images"]
    unseen_scores: Float[Tensor, "unseen_images classes"]
    unseen_labels: Int64[Tensor, " unseen_images"]
    unseen_classes: Int64[Tensor, " unseen"]

    @property
    def metrics(self) -> Metrics:
        """Return the figures of the field."""
        among_unseen = self.unseen_scores[:, self.unseen_classes].argmax(1)
        ts = per_class_top1(self.unseen_scores.argmax(1), self.unseen_labels)
        tr = per_class_top1(self.seen_scores.argmax(1), self.seen_labels)
        t1 = per_class_top1(self.unseen_classes[among_unseen], self.unseen_labels)
        return Metrics(ts, tr, harmonic_mean(tr, ts), t1)

    @property
    def confusion(self) -> Int64[Tensor, "classes classes"]:
        """Return how many images of each class (row) are taken for each (column), among all."""
        labels = torch.cat([self.seen_labels, self.unseen_labels])
        predicted = torch.cat([self.seen_scores.argmax(1), self.unseen_scores.argmax(1)])
        classes = self.seen_scores.shape[1]
        pairs = torch.bincount(labels * classes + predicted, minlength=classes**2)
        return pairs.reshape(classes, classes)


def score(model: Scorer, scaler: FeatureScaler, task: Task) -> Scored:
    """Score the held-out parts of a task, validation or test alike."""

    def scored(part: Part) -> tuple[Tensor, Tensor]:
        features = part.features[part.rows]
        scores = class_scores(model, scaler, features, task.class_attributes)
        return scores, part.labels[part.rows]

    return Scored(*scored(task.heldout_seen), *scored(task.heldout_unseen), task.unseen_classes)


def evaluate(model: Scorer, scaler: FeatureScaler, task: Task) -> Metrics:
    """Score the held-out parts of a task, and return the figures of the field."""
    return score(model, scaler, task).metrics


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
