"""The field's metrics: per-class accuracies, their harmonic mean, and retrieval (section 4)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from mianet.calibration import Gaps, best_constant, harmonic
from mianet.inference.prediction import class_scores
from mianet.model import Scores
from mianet.protocol import Subset, Task
from mianet.training import Epoch


@dataclass(frozen=True)
class Metrics:
    """The figures of an execution, as fractions of 1."""

    unseen_accuracy: float  # ts, per-class top-1 of unseen classes' images among all classes
    seen_accuracy: float  # tr, per-class top-1 of seen classes' images among all classes
    harmonic_mean: float  # H of the two
    zsl_accuracy: float  # T1, per-class top-1 of unseen classes' images among the unseen classes
    ausuc: float  # area under the seen-unseen curve (see ``mianet.calibration``)
    calibrated_harmonic_mean: float  # H after a constant is subtracted from seen classes' scores

    def as_dict(self, prefix: str = "") -> dict[str, float]:
        """Return prefix + name → value."""
        return {prefix + f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Outcome:
    """What scoring one execution gives: ts, tr, T1, and the gaps that calibration depends on."""

    accuracies: Float64[Tensor, " accuracies"]
    gaps: Gaps

    def cpu(self) -> Outcome:
        return Outcome(self.accuracies.cpu(), self.gaps.cpu())


@dataclass(frozen=True)
class Summary:
    """The figures of several executions, calibrated by one constant."""

    calibration: float  # the constant, subtracted from the scores of seen classes
    executions: tuple[Metrics, ...]  # the figures of each execution

    @property
    def mean(self) -> Metrics:
        """Return the mean of each figure; H is the mean of the H's, not the H of the means."""
        figures = {f.name: [getattr(m, f.name) for m in self.executions] for f in fields(Metrics)}
        return Metrics(**{name: sum(values) / len(values) for name, values in figures.items()})


def summarise(outcomes: Sequence[Outcome], calibration: float | None = None) -> Summary:
    """Return the figures of executions, waiting for the device only once.

    They are calibrated by the given constant, or by the one that maximises the mean H.
    """
    gaps = [outcome.gaps for outcome in outcomes]
    if calibration is None:
        constant, calibrated = best_constant(gaps)
    else:
        constant = gaps[0].seen.new_tensor(calibration)
        calibrated = torch.stack([harmonic(*each.at(constant)) for each in gaps])
    areas = torch.stack([each.area for each in gaps])
    ts, tr, t1 = torch.stack([outcome.accuracies for outcome in outcomes], 1)
    figures = torch.stack([ts, tr, harmonic(tr, ts), t1, areas, calibrated], 1)
    *rows, last = torch.cat([figures, constant.expand(1, figures.shape[1])]).tolist()
    return Summary(last[0], tuple(Metrics(*row) for row in rows))


@dataclass(frozen=True)
class Scored:
    """Held-out images of seen and unseen classes, with a score for every class of the task."""

    seen_scores: Float[Tensor, "seen_images classes"]
    unseen_scores: Float[Tensor, "unseen_images classes"]
    task: Task

    @property
    def outcome(self) -> Outcome:
        """Return what all figures are computed from, on the device, without waiting for it."""
        return Outcome(self.accuracies, self.gaps)

    @property
    def gaps(self) -> Gaps:
        """Return the gap and weight of each image; see ``Gaps``."""
        task = self.task
        seen = self._side(self.seen_scores, task.heldout_seen, task.seen_classes)
        return Gaps(
            *seen, *self._side(self.unseen_scores, task.heldout_unseen, task.unseen_classes)
        )

    def _side(
        self, scores: Scores, subset: Subset, own_classes: Int64[Tensor, " own"]
    ) -> tuple[Float64[Tensor, " images"], Float64[Tensor, " images"]]:
        """Return the gap and the weight of each image of a subset."""
        best_seen, best_unseen = (
            scores[:, classes].amax(1).double()
            for classes in (self.task.seen_classes, self.task.unseen_classes)
        )
        correct = own_classes[scores[:, own_classes].argmax(1)] == subset.own_labels
        counts = subset.class_counts
        share = 1 / (counts.double() * counts.count_nonzero())
        return best_seen - best_unseen, correct * share[subset.own_labels]

    @property
    def accuracies(self) -> Float64[Tensor, " accuracies"]:
        """Return ts, tr and T1 on the device, without waiting for it."""
        unseen, classes = self.task.heldout_unseen, self.task.unseen_classes
        ts = per_class_top1(self.unseen_scores.argmax(1), unseen)
        tr = per_class_top1(self.seen_scores.argmax(1), self.task.heldout_seen)
        t1 = per_class_top1(classes[self.unseen_scores[:, classes].argmax(1)], unseen)
        return torch.stack([ts, tr, t1])

    @property
    def confusion(self) -> Int64[Tensor, "classes classes"]:
        """Return how many images of each class (row) are predicted as each (column), among all."""
        subsets = (self.task.heldout_seen, self.task.heldout_unseen)
        labels = torch.cat([subset.own_labels for subset in subsets])
        predicted = torch.cat([self.seen_scores.argmax(1), self.unseen_scores.argmax(1)])
        classes = self.seen_scores.shape[1]
        pairs = torch.bincount(labels * classes + predicted, minlength=classes**2)
        return pairs.reshape(classes, classes)


def score(epoch: Epoch, task: Task) -> Scored:
    """Score the held-out parts of a task, validation or test, with the model trained so far."""

    def class_scores_of(subset: Subset) -> Tensor:
        features = subset.features[subset.rows]
        return class_scores(epoch.model, epoch.scaler, features, task.class_attributes)

    return Scored(class_scores_of(task.heldout_seen), class_scores_of(task.heldout_unseen), task)


def evaluate(epoch: Epoch, task: Task) -> Metrics:
    """Score the held-out parts of a task, and return the field's figures, uncalibrated."""
    (metrics,) = summarise([score(epoch, task).outcome], 0.0).executions
    return metrics


def per_class_top1(predicted: Int64[Tensor, " images"], subset: Subset) -> Float64[Tensor, ""]:
    """Return the mean, over the classes in a subset, of the share predicted correctly."""
    labels, counts = subset.own_labels, subset.class_counts
    hits = torch.zeros_like(counts).scatter_add_(0, labels, (predicted == labels).long())
    return (hits.double() / counts.clamp_min(1)).sum() / counts.count_nonzero()


def mean_average_precision(
    scores: Scores, labels: Int64[Tensor, " images"], classes: Int64[Tensor, " queries"]
) -> float:
    """Return the mean average precision of retrieval by classes' attributes (section 4.5, eq. 9).

    Images are ranked by their cosine with the query. Equal scores share one rank: an image's
    precision counts all images that score at least as high.

    Args:
        scores: Cosine of every image with every class.
        labels: Class of each image.
        classes: The classes whose attributes are the queries; each must have an image.

    Raises:
        ValueError: A class has no image.
    """
    from sklearn.metrics import average_precision_score  # takes seconds to import

    image_classes, ranking = labels.cpu().numpy(), scores.cpu().numpy()
    precisions = []
    for c in classes.tolist():
        relevant = image_classes == c
        if not relevant.any():
            raise ValueError(f"every query must have a relevant image, but class {c} has none")
        precisions.append(average_precision_score(relevant, ranking[:, c]))
    return statistics.fmean(precisions)


def top_images(
    scores: Scores, classes: Int64[Tensor, " queries"], count: int
) -> Int64[Tensor, "queries top"]:
    """Return the rows of the best images for each query, best first (figure 11).

    Ties go to the earlier row.

    Args:
        scores: Score of every image for every class.
        classes: The columns to rank by.
        count: How many images per query.
    """
    order = scores[:, classes].argsort(dim=0, descending=True, stable=True)
    return order[:count].T
