"""One optimisation step of MIANet, in each of the paper's strategies (eq. 6-7, figure 7).

The gradients are written out rather than left to autograd: every product is computed once, in
place, for all executions of a trial together (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from mianet.config import Hyperparameters
from mianet.losses import matching, modality, orthogonality, reconstruction
from mianet.model import LATENT_EPS, MIANet
from mianet.processor import add_product, affine, product
from mianet.protocol import Task
from mianet.weights import Weights

Loss: TypeAlias = Float[Tensor, " executions"]
AllLosses: TypeAlias = Float[Tensor, "executions losses"]
"""In the order of ``LOSSES``."""
Latents: TypeAlias = Float[Tensor, "executions rows latent"]
"""Rows are images, seen classes, or both as in ``Forward.unit``: images, then seen classes."""

LOSSES = ("matching", "orthogonality", "reconstruction", "modality")
"""The losses in the order that a step returns them: eq. 1, 2, 5 and 4."""


@dataclass(frozen=True)
class Batch:
    """The balanced pairs of one step of each execution.

    Classes are positions among the execution's seen classes. Executions with fewer images are
    padded with rows of zeros.
    """

    features: Float[Tensor, "executions images features"]  # scaled; each is in two pairs
    classes: Int64[Tensor, "executions images"]  # the class of each image: its positive pair
    other_classes: Int64[Tensor, "executions images"]  # a random other class: its negative pair
    weights: Float[Tensor, "executions images"]  # 1 for an image, 0 for a padding row


@dataclass(frozen=True)
class Forward:
    """One forward pass: a visual latent for each image, a semantic one for each class."""

    hidden: Float[Tensor, "executions images hidden"]  # of the visual network
    raw: Latents  # latents of the images, then of the seen classes
    norms: Float[Tensor, "executions rows 1"]  # their lengths
    unit: Latents  # ``raw`` at unit length
    # unnormalised latents of the classes that eq. 2 applies to; seen ones first
    constrained: Float[Tensor, "executions classes latent"]
    members: Float[Tensor, "executions images seen"]  # 1 if an image is of a class
    rows: Float[Tensor, "executions rows"]  # how many positive pairs a row of ``unit`` is in


class DiscriminatorOutput(NamedTuple):
    """The discriminator's pass over the unit latents, with the loss of eq. 4 and its gradients.

    ``by_hidden`` is the gradient before the hidden layer's activation.
    """

    loss: Float[Tensor, " executions"]
    hidden: Float[Tensor, "executions rows width"]
    by_logits: Float[Tensor, "executions rows 2"]
    by_hidden: Float[Tensor, "executions rows width"]


@dataclass(frozen=True)
class Rebuilt:
    """Half of eq. 5: latents, and the objective's gradient by their reconstructions."""

    latents: Latents
    by_rebuilt: Float[Tensor, "executions rows values"]


@dataclass(frozen=True)
class RebuiltFeatures(Rebuilt):
    """The features' half, with the gradient by the hidden layer, before the activation."""

    by_hidden: Float[Tensor, "executions rows hidden"]


class Workspace(NamedTuple):
    """Buffers into which the factors of the visual weights' gradients are written.

    Each weight embeds images and rebuilds features, so its gradient is a product over the rows of
    both. Writing both into one buffer from the start avoids a copy and keeps them in the cache.
    """

    # For the gradient of ``visual_latent.weight``: the images' hidden layer, then the gradient by
    # the reconstruction's.
    for_latent: Float[Tensor, "executions rows hidden"]
    # For that of ``visual_hidden.weight``: the gradient by the images' hidden layer, then the
    # reconstruction's.
    for_hidden: Float[Tensor, "executions rows hidden"]


class Stepper:
    """Models of some executions, their optimisers, and their joint steps.

    Every quantity is computed once: an image's latent serves both of its pairs, a class's latent
    every image of the class, and one forward pass both optimisation steps.

    Args:
        models: A model for each execution, all of one shape.
        settings: Their hyperparameters.
        tasks: The executions; all have the same number of seen classes.
    """

    def __init__(
        self, models: Sequence[MIANet], settings: Hyperparameters, tasks: Sequence[Task]
    ) -> None:
        self.models = tuple(models)
        self.settings = settings
        self.seen = len(tasks[0].seen_classes)
        attributes = [task.class_attributes[task.seen_classes] for task in tasks]
        if not settings.withhold_unseen_attributes:  # placed after the seen ones
            unseen = [task.class_attributes[task.unseen_classes] for task in tasks]
            attributes = [torch.cat(both) for both in zip(attributes, unseen, strict=True)]
        self.attributes = torch.stack(attributes)
        self.attribute_squares = self.attributes[:, : self.seen].square().sum(-1)
        # Here, what to rebuild depends on the batch. A CUDA graph cannot capture that, and batched
        # executions would differ in it.
        self.only_present = len(models) == 1 and self.attributes.device.type == "cpu"
        names = [name for name, _ in models[0].named_parameters()]
        discriminator = [name for name in names if name.startswith("discriminator.")]
        embedding = [name for name in names if name not in discriminator]
        self.workspaces: dict[tuple[int, ...], Workspace] = {}
        self.embedding = Weights(
            models, embedding, settings.learning_rate, rounded=settings.precision == "bf16"
        )
        self.discriminator = Weights(models, discriminator, settings.learning_rate)

    def state(self, execution: int) -> dict[str, Any]:
        """Return everything training has changed in an execution; the tensors are the live ones."""
        return {
            "embedding": self.embedding.state(execution),
            "discriminator": self.discriminator.state(execution),
        }

    def restore(self, execution: int, state: Mapping[str, Any]) -> None:
        """Restore a copy of what ``state`` of an identical execution returned."""
        self.embedding.restore(execution, state["embedding"])
        self.discriminator.restore(execution, state["discriminator"])

    @torch.no_grad()
    def step(self, batch: Batch) -> AllLosses:
        """Take one step of the chosen strategy; return its losses (``LOSSES``).

        A batch with fewer executions than there are models covers the first ones.
        """
        step = Step(self, batch)
        if not self.settings.discriminator:
            return step.update_embeddings(None)
        return STRATEGIES[self.settings.strategy](step)


class Step:
    """The losses and gradients of one batch, at the current weights."""

    def __init__(self, stepper: Stepper, batch: Batch) -> None:
        self.stepper = stepper
        self.settings = stepper.settings
        self.batch = batch
        self.executions = len(batch.features)
        self.weights = stepper.embedding.values(self.executions)
        self.gradients = stepper.embedding.gradients(self.executions)
        self.attributes = stepper.attributes[: self.executions]
        self.images = batch.features.shape[1]
        # Rows of ``forward.unit``: the images', then the seen classes'.
        self.visual, self.semantic = slice(self.images), slice(self.images, None)

    @cached_property
    def forward(self) -> Forward:
        """Return the embedded images and classes."""
        w, batch, seen = self.weights, self.batch, self.stepper.seen
        hidden = self._workspace.for_latent[:, self.visual]
        _affine(batch.features, w, "visual_hidden", out=hidden).relu_()
        visual = self._activated(_affine(hidden, w, "visual_latent"))
        constrained = self._activated(_affine(self.attributes, w, "semantic_latent"))
        raw = torch.cat([visual, constrained[:, :seen]], 1)
        norms = torch.linalg.vector_norm(raw, dim=-1, keepdim=True).clamp_min_(LATENT_EPS)
        members = visual.new_zeros(*batch.classes.shape, seen)
        members.scatter_(2, batch.classes[..., None], batch.weights[..., None])
        rows = torch.cat([batch.weights, members.sum(1)], 1)
        return Forward(hidden, raw, norms, raw / norms, constrained, members, rows)

    def discriminate(self) -> DiscriminatorOutput:
        """Return the discriminator's pass over the latents (eq. 3-4)."""
        weights = self.stepper.discriminator.values(self.executions)
        hidden = _affine(self.forward.unit, weights, "discriminator.0").relu_()
        logits = _affine(hidden, weights, "discriminator.2")
        loss, by_logits = modality(logits, self._signs, self._share)
        by_hidden = _through_relu(product(by_logits, weights["discriminator.2.weight"]), hidden)
        return DiscriminatorOutput(loss, hidden, by_logits, by_hidden)

    def update_discriminator(self, output: DiscriminatorOutput, scale: float = 1.0) -> None:
        """Move the discriminator along the gradient of ``scale × L_dis``."""
        into = self.stepper.discriminator.gradients(self.executions)
        by_logits, by_hidden = output.by_logits, output.by_hidden
        if scale != 1:
            by_logits, by_hidden = by_logits * scale, by_hidden * scale
        _affine_gradient(into, "discriminator.2", by_logits, output.hidden)
        _affine_gradient(into, "discriminator.0", by_hidden, self.forward.unit)
        self.stepper.discriminator.step(self.executions)

    def update_embeddings(self, output: DiscriminatorOutput | None) -> AllLosses:
        """Move the embeddings along the gradient of eq. 7; return the losses (``LOSSES``)."""
        forward, seen = self.forward, self.stepper.seen
        zero = forward.unit.new_zeros(self.executions)
        by_unit = torch.zeros_like(forward.unit)
        if output:
            weight = self.stepper.discriminator.values(self.executions)["discriminator.0.weight"]
            add_product(by_unit, output.by_hidden, weight, -self.settings.gamma)
        matched = self._match(by_unit)
        reconstruct = RECONSTRUCTIONS[self.settings.reconstruction]
        reconstructed, rebuilt_attributes, rebuilt_features = reconstruct(self, by_unit)
        by_raw = _through_norm(by_unit, forward)
        by_visual = self._through_activation(by_raw[:, self.visual], forward.raw[:, self.visual])
        by_constrained = F.pad(
            by_raw[:, self.semantic], (0, 0, 0, forward.constrained.shape[1] - seen)
        )
        orthogonal = zero
        if self.settings.orthogonal:
            orthogonal, excess = orthogonality(forward.constrained)
            slope = 4 * self.settings.alpha / excess.shape[1] ** 2
            add_product(by_constrained, excess, forward.constrained, slope)
        by_constrained = self._through_activation(by_constrained, forward.constrained)
        self._set_semantic(by_constrained, rebuilt_attributes)
        self._set_visual(by_visual, rebuilt_features)
        self.stepper.embedding.step(self.executions)
        return torch.stack([matched, orthogonal, reconstructed, output.loss if output else zero], 1)

    def _rebuild_attributes(
        self,
        rows: slice,
        weights: Float[Tensor, "executions rebuilt"],
        sums: Float[Tensor, "executions rebuilt attributes"],
        by_unit: Latents,
    ) -> tuple[Loss, Rebuilt]:
        """Rebuild attributes from some rows of ``forward.unit`` (``R_s``); see ``reconstruction``.

        The gradient by those rows is added to ``by_unit``, the gradient by all unit latents.
        """
        latents, weight = self.forward.unit[:, rows], self.weights["semantic_latent.weight"]
        rebuilt = affine(latents, weight, self.weights["rebuilt_attributes_bias"])
        class_squares = self.stepper.attribute_squares[: self.executions]
        squares = (self.forward.rows[:, self.semantic] * class_squares).sum(1)
        loss, by_rebuilt = reconstruction(rebuilt, weights, sums, squares)
        by_rebuilt.mul_(self.settings.beta)
        add_product(by_unit[:, rows], by_rebuilt, weight.mT)
        return loss, Rebuilt(latents, by_rebuilt)

    def _rebuild_features(
        self,
        latents: Latents,
        weights: Float[Tensor, "executions rows"],
        sums: Float[Tensor, "executions rows features"],
    ) -> tuple[Loss, Latents, RebuiltFeatures]:
        """Rebuild features from unit latents (``R_f``); see ``reconstruction``.

        Returns the loss, its gradient by the latents, and what the weights' gradients need.
        """
        w = self.weights
        below = slice(self.images, self.images + latents.shape[1])
        by_hidden = self._workspace.for_latent[:, below]
        hidden = self._workspace.for_hidden[:, below]
        affine(latents, w["visual_latent.weight"], w["rebuilt_hidden_bias"], out=hidden).relu_()
        rebuilt = affine(hidden, w["visual_hidden.weight"], w["rebuilt_features_bias"])
        squares = self.batch.features.square().sum((1, 2))
        loss, by_rebuilt = reconstruction(rebuilt, weights, sums, squares)
        by_rebuilt.mul_(self.settings.beta)
        product(by_rebuilt, w["visual_hidden.weight"].mT, out=by_hidden)
        _through_relu(by_hidden, hidden)
        by_latents = product(by_hidden, w["visual_latent.weight"].mT)
        return loss, by_latents, RebuiltFeatures(latents, by_rebuilt, by_hidden)

    def cross_reconstruction(self, by_unit: Latents) -> tuple[Loss, Rebuilt, RebuiltFeatures]:
        """Return eq. 5, each modality rebuilt from the other's latents.

        Features are rebuilt for each class with an image in the batch. Where those classes are not
        known, they are rebuilt for each seen class or each image, whichever are fewer.
        """
        forward, batch = self.forward, self.batch
        targets = product(forward.members, self.attributes[:, : self.stepper.seen])
        loss, rebuilt_attributes = self._rebuild_attributes(
            self.visual, batch.weights, targets, by_unit
        )
        if self.stepper.only_present or self.stepper.seen <= self.images:
            present = batch.classes[0].unique() if self.stepper.only_present else slice(None)
            counts = forward.rows[:, self.semantic][:, present]
            sums = product(forward.members[:, :, present].mT, batch.features)
            class_latents = forward.unit[:, self.semantic][:, present]
            feature_loss, by_latents, rebuilt_features = self._rebuild_features(
                class_latents, counts, sums
            )
            by_unit[:, self.semantic][:, present] += by_latents
        else:
            own = batch.classes[..., None].expand(-1, -1, forward.unit.shape[-1])
            feature_loss, by_latents, rebuilt_features = self._rebuild_features(
                forward.unit[:, self.semantic].gather(1, own), batch.weights, batch.features
            )
            add_product(by_unit[:, self.semantic], forward.members.mT, by_latents)
        return loss + feature_loss, rebuilt_attributes, rebuilt_features

    def self_reconstruction(self, by_unit: Latents) -> tuple[Loss, Rebuilt, RebuiltFeatures]:
        """Return eq. 5 with each modality rebuilt from its own latents (figures 4c, 5c)."""
        forward, batch = self.forward, self.batch
        counts = forward.rows[:, self.semantic]
        targets = counts[..., None] * self.attributes[:, : self.stepper.seen]
        loss, rebuilt_attributes = self._rebuild_attributes(self.semantic, counts, targets, by_unit)
        feature_loss, by_latents, rebuilt_features = self._rebuild_features(
            forward.unit[:, self.visual], batch.weights, batch.features
        )
        by_unit[:, self.visual].add_(by_latents)
        return loss + feature_loss, rebuilt_attributes, rebuilt_features

    def no_reconstruction(self, by_unit: Latents) -> tuple[Loss, None, None]:
        """Return 0 (figures 4b, 5b)."""
        return by_unit.new_zeros(self.executions), None, None

    def _match(self, by_unit: Latents) -> Loss:
        """Return eq. 1, and add its gradient by the unit latents."""
        forward, batch = self.forward, self.batch
        cosines = product(forward.unit[:, self.visual], forward.unit[:, self.semantic].mT)
        own, other = batch.classes[..., None], batch.other_classes[..., None]
        loss, by_positive, by_negative = matching(
            cosines.gather(2, own)[..., 0], cosines.gather(2, other)[..., 0], batch.weights
        )
        by_cosines = torch.zeros_like(cosines)
        by_cosines.scatter_(2, own, by_positive[..., None])
        by_cosines.scatter_(2, other, by_negative[..., None])
        add_product(by_unit[:, self.visual], by_cosines, forward.unit[:, self.semantic])
        add_product(by_unit[:, self.semantic], by_cosines.mT, forward.unit[:, self.visual])
        return loss

    def _set_semantic(
        self, by_constrained: Float[Tensor, "executions classes latent"], rebuilt: Rebuilt | None
    ) -> None:
        """Set the gradients of the semantic network and its tied reconstructor."""
        _affine_gradient(self.gradients, "semantic_latent", by_constrained, self.attributes)
        if rebuilt:
            add_product(
                self.gradients["semantic_latent.weight"], rebuilt.latents.mT, rebuilt.by_rebuilt
            )
            torch.sum(rebuilt.by_rebuilt, 1, out=self.gradients["rebuilt_attributes_bias"])

    def _set_visual(
        self, by_visual: Float[Tensor, "executions images latent"], rebuilt: RebuiltFeatures | None
    ) -> None:
        """Set the gradients of the visual network and its tied reconstructor.

        Each weight both embeds and rebuilds; the rows of both are multiplied together.
        """
        into, features = self.gradients, self.batch.features
        by_hidden = self._workspace.for_hidden[:, self.visual]
        product(by_visual, self.weights["visual_latent.weight"], out=by_hidden)
        _through_relu(by_hidden, self.forward.hidden)
        torch.sum(by_visual, 1, out=into["visual_latent.bias"])
        torch.sum(by_hidden, 1, out=into["visual_hidden.bias"])
        if rebuilt:
            torch.sum(rebuilt.by_hidden, 1, out=into["rebuilt_hidden_bias"])
            torch.sum(rebuilt.by_rebuilt, 1, out=into["rebuilt_features_bias"])
            by_visual = torch.cat([by_visual, rebuilt.latents], 1)
            features = torch.cat([features, rebuilt.by_rebuilt], 1)
        hidden, by_hidden = (factor[:, : by_visual.shape[1]] for factor in self._workspace)
        if self.settings.precision == "bf16":
            by_visual, by_hidden = by_visual.bfloat16(), by_hidden.bfloat16()
        product(by_visual.mT, hidden, out=into["visual_latent.weight"])
        product(by_hidden.mT, features, out=into["visual_hidden.weight"])

    @cached_property
    def _workspace(self) -> Workspace:
        images, seen = self.images, self.stepper.seen
        rebuilt = {"cross": min(images, seen), "self": images, "none": 0}  # at most
        rows = images + rebuilt[self.settings.reconstruction]
        shape = (self.executions, rows, self.settings.hidden_dim)
        if shape not in self.stepper.workspaces:
            features = self.batch.features
            self.stepper.workspaces[shape] = Workspace(
                features.new_empty(shape), features.new_empty(shape)
            )
        return self.stepper.workspaces[shape]

    @cached_property
    def _signs(self) -> Float[Tensor, " rows"]:
        """Return 1 for the rows of ``forward.unit`` that are visual, -1 for the others."""
        signs = self.forward.unit.new_ones(self.forward.unit.shape[1])
        signs[self.semantic].fill_(-1)
        return signs

    @cached_property
    def _share(self) -> Float[Tensor, "executions rows"]:
        """Return the share of positive-pair latents that each row of ``forward.unit`` is."""
        return self.forward.rows / self.forward.rows.sum(1, keepdim=True)

    def _activated(self, latents: Latents) -> Latents:
        return latents.relu_() if self.settings.latent_activation == "relu" else latents

    def _through_activation(self, gradient: Latents, activated: Latents) -> Latents:
        if self.settings.latent_activation == "linear":
            return gradient
        return _through_relu(gradient, activated)


def iterative(step: Step) -> AllLosses:
    """Take the step of eq. 6, then that of eq. 7 against the updated discriminator.

    Eq. 6 leaves the embeddings unchanged, so eq. 7 reuses its forward pass.
    """
    step.update_discriminator(step.discriminate())
    return step.update_embeddings(step.discriminate())


def simultaneous(step: Step) -> AllLosses:
    """Take the steps of eq. 6 and eq. 7 from the same weights, with two optimisers."""
    output = step.discriminate()
    losses = step.update_embeddings(output)
    step.update_discriminator(output)
    return losses


def joint(step: Step) -> AllLosses:
    """Update all weights by eq. 7, including the discriminator's.

    Adam treats each weight separately, so two optimisers with equal settings act as one.
    """
    output = step.discriminate()
    losses = step.update_embeddings(output)
    step.update_discriminator(output, scale=-step.settings.gamma)
    return losses


STRATEGIES: Mapping[str, Callable[[Step], AllLosses]] = {
    "iterative": iterative,
    "simultaneous": simultaneous,
    "joint": joint,
}
"""Optimisation strategies (figure 7): name → one step with a discriminator."""

Reconstruct = Callable[[Step, Latents], tuple[Loss, Rebuilt | None, RebuiltFeatures | None]]

RECONSTRUCTIONS: Mapping[str, Reconstruct] = {
    "cross": Step.cross_reconstruction,
    "self": Step.self_reconstruction,
    "none": Step.no_reconstruction,
}
"""Variants of eq. 5: name → the loss, and what the tied weights' gradients need of each half."""


def _affine(
    rows: Tensor, weights: Mapping[str, Tensor], layer: str, *, out: Tensor | None = None
) -> Float[Tensor, "executions rows outputs"]:
    return affine(rows, weights[f"{layer}.weight"].mT, weights[f"{layer}.bias"], out)


def _affine_gradient(into: Mapping[str, Tensor], layer: str, by_out: Tensor, rows: Tensor) -> None:
    product(by_out.mT, rows, out=into[f"{layer}.weight"])
    torch.sum(by_out, 1, out=into[f"{layer}.bias"])


def _through_relu(gradient: Latents, activated: Latents) -> Latents:
    """Backpropagate through a ReLU in place; a product with a mask takes nine times as long."""
    torch.ops.aten.threshold_backward.grad_input(gradient, activated, 0, grad_input=gradient)
    return gradient


def _through_norm(by_unit: Latents, forward: Forward) -> Latents:
    """Return the gradient by latents, given that by the latents at unit length."""
    along = (by_unit * forward.unit).sum(-1, keepdim=True)
    return torch.addcmul(by_unit, along, forward.unit, value=-1).div_(forward.norms)
