"""ConSE and DAP: models that compare the outputs of logistic regressions on an image.

- ConSE: M. Norouzi et al., "Zero-shot learning by convex combination of semantic embeddings",
  ICLR 2014.
- DAP: C. H. Lampert, H. Nickisch and S. Harmeling, "Attribute-based classification for zero-shot
  visual object categorization", TPAMI 2014 (CVPR 2009).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mianet.errors import DivergedError
from mianet.model import Attributes, Features, Scores
from mianet.protocol import Task
from mianet.reference.repeated import Fitted, closed_form
from mianet.reference.settings import ConSESettings, DAPSettings
from mianet.scaling import FeatureScaler
from mianet.training import class_positions


@dataclass(frozen=True)
class Linear:
    """The logits ``x W + b``."""

    weight: Float[Tensor, "features outputs"]
    bias: Float[Tensor, " outputs"]

    def logits(self, features: Features) -> Float[Tensor, "images outputs"]:
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
        task: The task with the training images.
        scaler: The feature scaling.
        outputs: Columns of W.
        loss: A convex function of the logits of the training images, in their order.
        weight_decay: The regulariser; the bias has none.

    Returns:
        The regression and its final loss, without the regulariser.

    Raises:
        DivergedError: The regression is not finite.
    """
    features = scaler(task.train.features[task.train.rows])
    weight = features.new_zeros(features.shape[1], outputs, requires_grad=True)
    bias = features.new_zeros(outputs, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=100,
        tolerance_grad=1e-5,
        tolerance_change=1e-8,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimiser.zero_grad()
        fit = loss(torch.addmm(bias, features, weight))
        total: Tensor = fit + weight_decay / 2 * weight.square().sum()
        total.backward()
        if not (total.isfinite() and weight.grad is not None and weight.grad.isfinite().all()):
            raise DivergedError("the logistic regression is not finite")  # L-BFGS would go wrong
        return total

    optimiser.step(objective)
    fitted = Linear(weight.detach(), bias.detach())
    final_loss = loss(fitted.logits(features))
    if not (final_loss.isfinite() and fitted.weight.isfinite().all()):
        raise DivergedError("the logistic regression is not finite")
    return fitted, final_loss.item()


@dataclass(frozen=True)
class ConSE:
    """The trained classifier, and the attributes of its classes."""

    classifier: Linear
    seen_attributes: Float[Tensor, "seen attributes"]
    top: int

    def scores(self, features: Features, class_attributes: Attributes) -> Scores:
        """Return the cosine of the combined attributes with those of every class.

        It combines the T most likely seen classes, weighted by their probabilities; the sum of
        those, by which the publication divides, is the same for all classes.
        """
        probabilities = self.classifier.logits(features).softmax(-1)
        best = probabilities.topk(min(self.top, probabilities.shape[1]))
        kept = probabilities.new_zeros(probabilities.shape).scatter(1, best.indices, best.values)
        combined = kept @ self.seen_attributes
        return F.normalize(combined) @ F.normalize(class_attributes).mT


def fit_conse(task: Task, scaler: FeatureScaler, settings: ConSESettings) -> Fitted:
    """Fit ConSE; see ``mianet.reference.repeated.Fit``."""
    positions = class_positions(task)
    classifier, loss = fit_linear(
        task,
        scaler,
        len(task.seen_classes),
        lambda logits: F.cross_entropy(logits, positions),
        settings.weight_decay,
    )
    model = ConSE(classifier, task.class_attributes[task.seen_classes], settings.top)
    return model, {"classifier": loss}


@dataclass(frozen=True)
class DAP:
    """The trained classifiers of the attributes that some seen classes have and others lack."""

    classifiers: Linear  # one logit per attribute
    attributes: Bool[Tensor, " attributes"]  # which columns of the class attributes are used
    thresholds: Float[Tensor, " kept"]  # values above which a class has the attribute
    priors: Float[Tensor, " kept"]  # shares of the seen classes that have the attribute

    def scores(self, features: Features, class_attributes: Attributes) -> Scores:
        """Return ``log Π_m p(a_m | x) / p(a_m)`` for the attributes a of every class.

        All classes are equally likely a priori.
        """
        has = (class_attributes[:, self.attributes] > self.thresholds).to(features.dtype)
        logits = self.classifiers.logits(features)
        present = F.logsigmoid(logits) - self.priors.log()
        absent = F.logsigmoid(-logits) - (1 - self.priors).log()
        return present @ has.mT + absent @ (1 - has).mT


def fit_dap(task: Task, scaler: FeatureScaler, settings: DAPSettings) -> Fitted:
    """Fit DAP; see ``mianet.reference.repeated.Fit``. Indistinguishable classes diverge."""
    values = task.class_attributes[task.seen_classes]
    by_attribute = settings.threshold == "attribute"
    means = values.mean(0) if by_attribute else values.mean().expand(values.shape[1])
    has = values > means
    # An attribute that all seen classes have, or lack, cannot be learned; its prior is 0 or 1.
    varied = has.any(0) & ~has.all(0)
    if not varied.any():
        raise DivergedError("no binary attribute tells the seen classes apart")
    has = has[:, varied].to(values.dtype)
    targets = has[class_positions(task)]
    classifiers, loss = fit_linear(
        task,
        scaler,
        has.shape[1],
        lambda logits: (
            F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(targets)
        ),
        settings.weight_decay,
    )
    model = DAP(classifiers, varied, means[varied], has.mean(0))
    return model, {"classifiers": loss / has.shape[1]}


begin_conse = closed_form(fit_conse)
begin_dap = closed_form(fit_dap)
