"""One optimisation step of MIANet, in each of the paper's strategies (eq. 6-7, figure 7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mianet.config import Hyperparameters
from mianet.losses import (
    matching_loss,
    modality_loss,
    orthogonality_loss,
    reconstruction_loss,
)
from mianet.model import MIANet, on_hypersphere
from mianet.protocol import Task

LOSSES = ("matching", "orthogonality", "reconstruction", "modality")
"""The losses in the order that a step returns them: eq. 1, 2, 5 and 4."""


@dataclass(frozen=True)
class Batch:
    """The balanced pairs of one step; classes are positions among the seen classes.

    Attributes:
        features: Scaled images; each stands in one positive and one negative pair.
        classes: The class of each image: its positive pair.
        other_classes: A random other seen class for each image: its negative pair.
    """

    features: Float[Tensor, "images features"]
    classes: Int64[Tensor, " images"]
    other_classes: Int64[Tensor, " images"]


@dataclass(frozen=True)
class Latents:
    """One forward pass: a visual latent for each image, a semantic one for each class.

    Attributes:
        visual: Unit latents of the batch's images.
        semantic: Unit latents of the seen classes.
        constrained: Unnormalised latents of the classes that eq. 2 speaks of.
        rebuilt: Features rebuilt from the positive pairs' semantic latents; empty where none are.
    """

    visual: Float[Tensor, "images latent"]
    semantic: Float[Tensor, "seen latent"]
    constrained: Float[Tensor, "classes latent"]
    rebuilt: Float[Tensor, "pairs features"]


class Stepper:
    """A model, its two optimisers, and the losses of a batch.

    Every quantity is computed once: an image's latent serves both of its pairs, a class's latent
    every image of the class, and one forward pass both optimisation steps.
    """

    def __init__(self, model: MIANet, settings: Hyperparameters, task: Task) -> None:
        self.model = model
        self.settings = settings
        self.seen_classes = task.seen_classes
        self.attributes = task.class_attributes
        self.seen_attributes = task.class_attributes[task.seen_classes]
        self.embedding = model.embedding_parameters()
        self.discriminator = model.discriminator_parameters()
        self.embedding_optimizer = _adam(self.embedding, settings)
        self.discriminator_optimizer = _adam(self.discriminator, settings)

    def state(self) -> dict[str, Any]:
        """Return all that training has changed: the weights and both optimisers' moments.

        The tensors are those in use, not copies.
        """
        return {
            "model": self.model.state_dict(),
            "embedding_optimizer": self.embedding_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` of an equal stepper returned; it is copied."""
        self.model.load_state_dict(state["model"])
        for name in ("embedding_optimizer", "discriminator_optimizer"):
            getattr(self, name).load_state_dict(deepcopy(state[name]))  # it would share the moments

    def step(self, batch: Batch) -> Float[Tensor, " losses"]:
        """Take one step of the chosen strategy; return the losses that it met (``LOSSES``)."""
        losses = STRATEGIES[self.settings.strategy](self, batch)
        return torch.stack([losses[name] for name in LOSSES]).detach()

    def forward(self, batch: Batch) -> Latents:
        """Embed each image and each class once.

        Features are rebuilt for each class rather than each image where that is less work.
        """
        if self.settings.withhold_unseen_attributes:
            seen = constrained = self.model.embed_attributes(self.seen_attributes)
        else:
            constrained = self.model.embed_attributes(self.attributes)
            seen = constrained.index_select(0, self.seen_classes)
        semantic = on_hypersphere(seen)
        if self.settings.reconstruction != "cross":
            visual, rebuilt = self.model.embed_features(batch.features), batch.features[:0]
        elif len(semantic) <= len(batch.classes):
            visual, of_classes = self.model.embed_and_rebuild(batch.features, semantic)
            rebuilt = of_classes.index_select(0, batch.classes)
        else:
            of_images = semantic.index_select(0, batch.classes)
            visual, rebuilt = self.model.embed_and_rebuild(batch.features, of_images)
        return Latents(on_hypersphere(visual), semantic, constrained, rebuilt)

    def losses(self, batch: Batch, latents: Latents) -> dict[str, Float[Tensor, ""]]:
        """Return the four losses of a batch by name; one that takes no part is 0."""
        visual, semantic = latents.visual, latents.semantic
        none = visual.new_zeros(())
        return {
            "matching": matching_loss(
                (visual * semantic.index_select(0, batch.classes)).sum(1),
                (visual * semantic.index_select(0, batch.other_classes)).sum(1),
            ),
            "orthogonality": (
                orthogonality_loss(latents.constrained) if self.settings.orthogonal else none
            ),
            "reconstruction": RECONSTRUCTIONS[self.settings.reconstruction](self, batch, latents),
            "modality": (
                self.modality(batch, visual, semantic) if self.settings.discriminator else none
            ),
        }

    def objective(self, losses: Mapping[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """Return ``L_orf + α L_ors + β L_rec − γ L_dis`` (eq. 7)."""
        return (
            losses["matching"]
            + self.settings.alpha * losses["orthogonality"]
            + self.settings.beta * losses["reconstruction"]
            - self.settings.gamma * losses["modality"]
        )

    def modality(
        self,
        batch: Batch,
        visual: Float[Tensor, "images latent"],
        semantic: Float[Tensor, "seen latent"],
    ) -> Float[Tensor, ""]:
        """Return ``L_dis`` of the positive pairs; a class's logits are computed once."""
        return modality_loss(
            self.model.discriminator(visual),
            self.model.discriminator(semantic).index_select(0, batch.classes),
        )

    def cross_reconstruction(self, batch: Batch, latents: Latents) -> Float[Tensor, ""]:
        """Return eq. 5, each modality rebuilt from the other's latents."""
        attributes = self.seen_attributes.index_select(0, batch.classes)
        return reconstruction_loss(latents.rebuilt, batch.features) + reconstruction_loss(
            self.model.rebuild_attributes(latents.visual), attributes
        )

    def self_reconstruction(self, batch: Batch, latents: Latents) -> Float[Tensor, ""]:
        """Return eq. 5 with each modality rebuilt from its own latents (figures 4c, 5c)."""
        rebuilt = self.model.rebuild_attributes(latents.semantic).index_select(0, batch.classes)
        attributes = self.seen_attributes.index_select(0, batch.classes)
        return reconstruction_loss(rebuilt, attributes) + reconstruction_loss(
            self.model.rebuild_features(latents.visual), batch.features
        )

    def no_reconstruction(self, batch: Batch, latents: Latents) -> Float[Tensor, ""]:
        """Return 0 (figures 4b, 5b)."""
        return latents.visual.new_zeros(())


def iterative(stepper: Stepper, batch: Batch) -> dict[str, Tensor]:
    """Take the step of eq. 6, then that of eq. 7 against the discriminator that it left.

    Eq. 6 leaves the embeddings alone, so its forward pass serves eq. 7 as well.
    """
    latents = stepper.forward(batch)
    if stepper.settings.discriminator:
        loss = stepper.modality(batch, latents.visual.detach(), latents.semantic.detach())
        _set_gradients(loss, stepper.discriminator)
        stepper.discriminator_optimizer.step()
    losses = stepper.losses(batch, latents)
    _set_gradients(stepper.objective(losses), stepper.embedding)
    stepper.embedding_optimizer.step()
    return losses


def simultaneous(stepper: Stepper, batch: Batch) -> dict[str, Tensor]:
    """Take the steps of eq. 6 and eq. 7 from the same weights, by two optimisers."""
    losses = stepper.losses(batch, stepper.forward(batch))
    if stepper.settings.discriminator:
        _set_gradients(losses["modality"], stepper.discriminator, retain_graph=True)
    _set_gradients(stepper.objective(losses), stepper.embedding)
    stepper.embedding_optimizer.step()
    if stepper.settings.discriminator:
        stepper.discriminator_optimizer.step()
    return losses


def joint(stepper: Stepper, batch: Batch) -> dict[str, Tensor]:
    """Update all weights by eq. 7, the discriminator's among them.

    Adam treats every weight by itself, so two optimisers of equal settings are one.
    """
    losses = stepper.losses(batch, stepper.forward(batch))
    discriminator = stepper.discriminator if stepper.settings.discriminator else []
    _set_gradients(stepper.objective(losses), [*stepper.embedding, *discriminator])
    stepper.embedding_optimizer.step()
    if discriminator:
        stepper.discriminator_optimizer.step()
    return losses


STRATEGIES: Mapping[str, Callable[[Stepper, Batch], dict[str, Tensor]]] = MappingProxyType(
    {"iterative": iterative, "simultaneous": simultaneous, "joint": joint}
)
"""Optimisation strategies (figure 7): name → one step."""

RECONSTRUCTIONS: Mapping[str, Callable[[Stepper, Batch, Latents], Tensor]] = MappingProxyType(
    {
        "cross": Stepper.cross_reconstruction,
        "self": Stepper.self_reconstruction,
        "none": Stepper.no_reconstruction,
    }
)
"""Ways of eq. 5: name → the loss of a batch."""


def _adam(weights: Sequence[Tensor], settings: Hyperparameters) -> torch.optim.Adam:
    return torch.optim.Adam(weights, lr=settings.learning_rate, fused=True)


def _set_gradients(loss: Tensor, weights: Sequence[Tensor], *, retain_graph: bool = False) -> None:
    """Set the gradients of these weights and of no others; a weight without a part gets none."""
    gradients = torch.autograd.grad(loss, weights, retain_graph=retain_graph, allow_unused=True)
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
