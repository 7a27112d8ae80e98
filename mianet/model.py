"""MIANet's networks: two embeddings, their tied reconstructors, one discriminator (section 3)."""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mianet.config import Hyperparameters

Features: TypeAlias = Float[Tensor, "images features"]
Attributes: TypeAlias = Float[Tensor, "classes attributes"]
Latents: TypeAlias = Float[Tensor, "rows latent"]
Scores: TypeAlias = Float[Tensor, "images classes"]


class MIANet(nn.Module):
    """The networks of MIANet.

    The reconstructors have only biases of their own: their weights *are* those of the embeddings,
    transposed (section 3.4), so training one trains the other.

    Args:
        feature_dim: d, width of the visual features.
        attribute_dim: l, width of a class's attribute vector.
        latent_dim: L, width of the shared latent space.
        hidden_dim: Width of the visual network's hidden layer.
        discriminator_dim: Width of the discriminator's hidden layer.
        latent_activation: ``"relu"`` or ``"linear"``, after the last embedding layer.
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        attribute_dim: int,
        latent_dim: int,
        hidden_dim: int = 2048,
        discriminator_dim: int = 30,
        latent_activation: str = "relu",
    ) -> None:
        super().__init__()
        self.latent_activation = latent_activation
        self.visual_hidden = nn.Linear(feature_dim, hidden_dim)
        self.visual_latent = nn.Linear(hidden_dim, latent_dim)
        self.semantic_latent = nn.Linear(attribute_dim, latent_dim)
        self.rebuilt_hidden_bias = nn.Parameter(torch.zeros(hidden_dim))
        self.rebuilt_features_bias = nn.Parameter(torch.zeros(feature_dim))
        self.rebuilt_attributes_bias = nn.Parameter(torch.zeros(attribute_dim))
        self.discriminator = nn.Sequential(
            nn.Linear(latent_dim, discriminator_dim), nn.ReLU(), nn.Linear(discriminator_dim, 2)
        )

    def embed_features(self, features: Features) -> Latents:
        """Return the visual latents before normalisation: FC d → hidden → L."""
        return self._activate(self.visual_latent(F.relu(self.visual_hidden(features))))

    def embed_attributes(self, attributes: Attributes) -> Latents:
        """Return the semantic latents before normalisation: FC l → L."""
        return self._activate(self.semantic_latent(attributes))

    def rebuild_features(self, latents: Latents) -> Float[Tensor, "rows features"]:
        """Return ``R_f``: features from latents, using the visual network's weights."""
        hidden = F.relu(F.linear(latents, self.visual_latent.weight.mT, self.rebuilt_hidden_bias))
        return F.linear(hidden, self.visual_hidden.weight.mT, self.rebuilt_features_bias)

    def rebuild_attributes(self, latents: Latents) -> Float[Tensor, "rows attributes"]:
        """Return ``R_s``: attributes from latents, using the semantic network's weights."""
        return F.linear(latents, self.semantic_latent.weight.mT, self.rebuilt_attributes_bias)

    def scores(self, features: Features, class_attributes: Attributes) -> Scores:
        """Return the cosine of every image with every class in latent space (section 3.5)."""
        prototypes = on_hypersphere(self.embed_attributes(class_attributes))
        return on_hypersphere(self.embed_features(features)) @ prototypes.mT

    def _activate(self, latents: Tensor) -> Tensor:
        return F.relu(latents) if self.latent_activation == "relu" else latents


LATENT_EPS = 1e-8
"""The smallest norm that a latent is divided by."""


def on_hypersphere(latents: Latents) -> Latents:
    """Return the latents at unit L2 norm; an all-zero latent stays zero, as do its cosines."""
    return F.normalize(latents, dim=-1, eps=LATENT_EPS)


def build_model(
    hyperparameters: Hyperparameters,
    *,
    feature_dim: int,
    attribute_dim: int,
    classes: int,
    seed: int,
) -> MIANet:
    """Return a newly initialised model whose weights depend only on its shape and the seed.

    The weights are drawn on the CPU, so every device starts from the same ones; the process's
    random state is left unchanged.

    Args:
        hyperparameters: The widths and the activation.
        feature_dim: Width of the features.
        attribute_dim: Width of the class attributes.
        classes: The number of classes that the latent dimension is a multiple of.
        seed: Seed of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MIANet(
            feature_dim=feature_dim,
            attribute_dim=attribute_dim,
            latent_dim=hyperparameters.latent_dim(classes),
            hidden_dim=hyperparameters.hidden_dim,
            discriminator_dim=hyperparameters.discriminator_dim,
            latent_activation=hyperparameters.latent_activation,
        )
