"""A trained model as a classifier: features in, one cosine for each class out (section 3.5)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from mianet.errors import InputError
from mianet.model import MIANet, on_hypersphere
from mianet.scaling import FeatureScaler

_IMAGES_AT_ONCE = 2048


@torch.no_grad()
def cosine_scores(
    model: MIANet,
    scaler: FeatureScaler,
    features: Float[Tensor, "images features"],
    class_attributes: Float[Tensor, "classes attributes"],
) -> Float[Tensor, "images classes"]:
    """Return the cosine of every image with every class in the latent space.

    The nearest class is the prediction: among all classes for GZSL, among the unseen for ZSL.
    """
    prototypes = on_hypersphere(model.embed_attributes(class_attributes))
    return torch.cat(
        [
            on_hypersphere(model.embed_features(scaler(chunk))) @ prototypes.mT
            for chunk in features.split(_IMAGES_AT_ONCE)
        ]
    )


@dataclass(frozen=True)
class Classifier:
    """Everything that a prediction needs, on the CPU.

    Attributes:
        model: The trained networks.
        scaler: The feature scaling that they were trained behind.
        class_attributes: One row a class.
        class_names: One name a class.
        unseen: Which classes had no training images.
    """

    model: MIANet
    scaler: FeatureScaler
    class_attributes: Float[Tensor, "classes attributes"]
    class_names: tuple[str, ...]
    unseen: Bool[np.ndarray, " classes"]

    @property
    def feature_dim(self) -> int:
        """Return d, the width of the features that it takes."""
        return self.model.visual_hidden.in_features

    def predict(
        self, features: Float32[np.ndarray, "images features"]
    ) -> Float32[np.ndarray, "images classes"]:
        """Return the cosine of every image with every class.

        Raises:
            InputError: The features have another width than those it was trained on.
        """
        if features.ndim != 2 or features.shape[1] != self.feature_dim:
            raise InputError(
                f"features must have the shape (images, {self.feature_dim}), "
                f"but got {features.shape}"
            )
        scores = cosine_scores(
            self.model, self.scaler, torch.tensor(features), self.class_attributes
        )
        return np.asarray(scores.numpy())

    def save(self, path: Path) -> None:
        """Write it as one file that holds tensors, numbers and strings only."""
        model = self.model
        torch.save(
            {
                "shape": {
                    "feature_dim": self.feature_dim,
                    "attribute_dim": model.semantic_latent.in_features,
                    "latent_dim": model.semantic_latent.out_features,
                    "hidden_dim": model.visual_hidden.out_features,
                    "discriminator_dim": model.discriminator[0].out_features,
                    "latent_activation": model.latent_activation,
                },
                "model": {name: value.cpu() for name, value in model.state_dict().items()},
                "scaling": self.scaler.kind,
                "scaler": {name: value.cpu() for name, value in self.scaler.state_dict().items()},
                "class_attributes": self.class_attributes.cpu(),
                "class_names": list(self.class_names),
                "unseen": torch.tensor(self.unseen),
            },
            path,
        )

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """Read what ``save`` wrote; nothing in the file is executed."""
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        model = MIANet(**saved["shape"])
        model.load_state_dict(saved["model"])
        scaler = FeatureScaler(saved["scaling"], saved["shape"]["feature_dim"])
        scaler.load_state_dict(saved["scaler"])
        return cls(
            model.eval(),
            scaler,
            saved["class_attributes"],
            tuple(saved["class_names"]),
            saved["unseen"].numpy(),
        )
