"""A small classifier with random weights, and features for it."""

import numpy as np
import torch

from mianet.config import Hyperparameters
from mianet.inference.prediction import Classifier
from mianet.model import build_model
from mianet.scaling import FeatureScaler

WIDTH, ATTRIBUTES, CLASSES, UNSEEN = 8, 4, 6, 2
NAMES = tuple("abcdef")


def small_classifier(**changes):
    """Six classes of which the last two are unseen; attribute vectors have length 1."""
    settings = Hyperparameters(hidden_dim=16, latent_activation="linear")
    model = build_model(
        settings, feature_dim=WIDTH, attribute_dim=ATTRIBUTES, classes=CLASSES, seed=0
    )
    values = {
        "model": model.eval(),
        "scaler": FeatureScaler("none", WIDTH),
        "class_attributes": torch.tensor(unit_vectors(CLASSES)),
        "class_names": NAMES,
        "unseen": np.arange(CLASSES) >= CLASSES - UNSEEN,
    }
    return Classifier(**(values | changes))


def unit_vectors(count, *, seed=1, width=ATTRIBUTES):
    vectors = np.random.default_rng(seed).random((count, width), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def some_features(images=20, *, seed=0):
    return np.random.default_rng(seed).normal(size=(images, WIDTH)).astype(np.float32)
