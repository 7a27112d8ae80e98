"""A trained model as a classifier: features in, one score for each class out (section 3.5)."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from mianet.data.extracted import BackboneRecord
from mianet.data.images import NORM_TOLERANCE, as_float32, not_finite
from mianet.errors import InputError
from mianet.model import Attributes, Features, MIANet, Scores
from mianet.scaling import FeatureScaler

GZSL, ZSL = "gzsl", "zsl"
MODES = (GZSL, ZSL)
"""Which classes an image can be of: all (generalized), or those without training images."""

FORMAT = 2
"""Version of the file format that a classifier is saved in."""

_IMAGES_AT_ONCE = 2048


@runtime_checkable
class Numbers(Protocol):
    """Numbers as NumPy, pandas or PyTorch hold them."""

    def __array__(self) -> Any:
        """Return them as a NumPy array."""


@runtime_checkable
class Scorer(Protocol):
    """What every trained model can do: score how well images and classes match."""

    def scores(self, features: Features, class_attributes: Attributes) -> Scores:
        """Return a score for every scaled image and every class; higher is better."""


@torch.no_grad()
def class_scores(
    model: Scorer, scaler: FeatureScaler, features: Features, class_attributes: Attributes
) -> Scores:
    """Return the model's score of every image for every class; for MIANet, their cosine.

    The best class is the prediction: among all classes for GZSL, among the unseen for ZSL.

    Args:
        model: The trained model.
        scaler: The feature scaling applied before it.
        features: Unscaled features.
        class_attributes: Attributes of the classes to score.
    """
    return torch.cat(
        [model.scores(scaler(chunk), class_attributes) for chunk in features.split(_IMAGES_AT_ONCE)]
    )


@dataclass(frozen=True)
class Classified:
    """The best classes of each image, the best first, as rows of the classifier's ``class_names``.

    They are ranked by their scores: cosines, minus the calibration for seen classes.
    """

    classes: Int64[np.ndarray, "images top"]
    scores: Float32[np.ndarray, "images top"]


@dataclass(frozen=True)
class Retrieved:
    """Rows of images, nearest to a class first, and their cosines with it."""

    images: Int64[np.ndarray, " top"]
    scores: Float32[np.ndarray, " top"]


@dataclass(frozen=True, repr=False)
class Classifier:
    """Everything that a prediction needs, on the CPU."""

    model: MIANet  # the trained networks
    scaler: FeatureScaler  # the feature scaling that they were trained with
    class_attributes: Attributes  # one row per class, in the order of ``class_names``
    class_names: tuple[str, ...]
    unseen: Bool[np.ndarray, " classes"]  # which classes had no training images
    # what is subtracted from the scores of seen classes when all classes compete (see
    # ``mianet.calibration``); 0 for plain cosines
    calibration: float = 0.0
    # the network that made the features; None if unknown
    backbone: BackboneRecord | None = None

    def __repr__(self) -> str:
        """Return a one-line summary, since the weights would fill pages."""
        return (
            f"<Classifier of {len(self.class_names)} classes, {int(self.unseen.sum())} of them "
            f"unseen, from {self.feature_dim} features>"
        )

    @property
    def feature_dim(self) -> int:
        """Return d, the width of the features that it takes."""
        return self.model.visual_hidden.in_features

    def predict(self, features: Numbers) -> Float32[np.ndarray, "images classes"]:
        """Return the cosine of every image with every class, without calibration."""
        return self._cosines(features, self.class_attributes)

    def classify(
        self,
        features: Numbers,
        *,
        mode: str = GZSL,
        top_k: int = 1,
        calibration: float | None = None,
    ) -> Classified:
        """Return the best classes of every image; ties go to the first class.

        Args:
            features: As ``predict`` takes them.
            mode: One of ``MODES``.
            top_k: How many classes per image.
            calibration: Overrides the classifier's own constant; has no effect on ZSL.
        """
        candidates = self.candidates(mode, top_k)
        constant = self.calibration if calibration is None else calibration
        if not math.isfinite(constant):
            raise InputError(f"calibration must be a finite number, but got {constant!r}")
        scores = (self.predict(features) - np.float32(constant) * ~self.unseen)[:, candidates]
        best = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        return Classified(candidates[best], np.take_along_axis(scores, best, axis=1))

    def candidates(self, mode: str, top_k: int = 1) -> Int64[np.ndarray, " candidates"]:
        """Return the classes that an image can be of in a mode; there must be ``top_k`` of them."""
        if mode not in MODES:
            raise InputError(f"mode must be one of {', '.join(MODES)}, but got {mode!r}")
        found = np.arange(len(self.class_names)) if mode == GZSL else np.flatnonzero(self.unseen)
        if not 1 <= top_k <= len(found):
            raise InputError(
                f"top_k must be from 1 to {len(found)}, the number of {mode} classes, but got "
                f"{top_k}"
            )
        return found

    def retrieve(
        self, features: Numbers, query: str | Numbers, *, top_k: int | None = None
    ) -> Retrieved:
        """Rank images by their cosine with a class (the order behind eq. 9).

        Args:
            features: As ``predict`` takes them.
            query: The name of a class, or the attribute vector of any class, (attributes,), as for
                ``add_classes``.
            top_k: How many images; all by default.
        """
        if not isinstance(query, str):
            vectors = self._checked_attributes(["the query"], _as_array(query)[None])
        elif query in self.class_names:
            vectors = self.class_attributes[self.class_names.index(query)][None]
        else:
            raise InputError(
                f"the class must be one of the model's {len(self.class_names)} "
                f"({self.class_names[0]}, …), but got {query!r}; give its attribute vector instead"
            )
        scores = self._cosines(features, vectors)[:, 0]
        if top_k is not None and not 1 <= top_k <= len(scores):
            raise InputError(
                f"top_k must be from 1 to {len(scores)}, the number of images, but got {top_k}"
            )
        order = np.argsort(-scores, kind="stable")[:top_k]
        return Retrieved(order, scores[order])

    def add_classes(self, names: Sequence[str], attributes: Numbers) -> Classifier:
        """Return a classifier that knows further classes, without training (section 4.6).

        The new classes are unseen ones; the known ones keep their scores.

        Args:
            names: One per class; none may be known already.
            attributes: (classes, attributes), prepared like those of the known classes: for the
                field's data sets, each vector divided by its length.
        """
        if not names or any(not (isinstance(name, str) and name.strip()) for name in names):
            raise InputError(f"new classes must have names, but got {list(names)!r}")
        name, count = Counter((*names, *self.class_names)).most_common(1)[0]
        if count > 1:
            raise InputError(f"class names must be unique, but {name!r} appears twice")
        vectors = self._checked_attributes(names, attributes)
        return dataclasses.replace(
            self,
            class_attributes=torch.cat([self.class_attributes, vectors]),
            class_names=(*self.class_names, *names),
            unseen=np.concatenate([self.unseen, np.ones(len(names), dtype=bool)]),
        )

    def save(self, path: Path) -> None:
        """Save it as one file that contains only tensors, numbers and strings."""
        model = self.model
        torch.save(
            {
                "format": FORMAT,
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
                "calibration": float(self.calibration),
                "backbone": json.dumps(self.backbone.as_dict()) if self.backbone else "",
            },
            path,
        )

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """Read what ``save`` wrote, onto the CPU; nothing in the file is executed."""
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            if saved["format"] == FORMAT:
                return cls._from(saved)
        except Exception as error:  # damaged and hostile files raise almost anything
            # PyTorch's own message recommends unsafe loading.
            raise InputError(
                f"{path} must be a classifier saved by this project, but cannot be read "
                f"({type(error).__name__}); it may be damaged or another kind of file"
            ) from error
        raise InputError(
            f"{path} must be a classifier of format {FORMAT}, but has {saved['format']!r}; "
            "load it with the version of this project that saved it"
        )

    @classmethod
    def _from(cls, saved: dict[str, Any]) -> Classifier:
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
            saved["calibration"],
            BackboneRecord.from_dict(json.loads(saved["backbone"]), "the classifier")
            if saved["backbone"]
            else None,
        )

    def _cosines(
        self, features: Numbers, class_attributes: Attributes
    ) -> Float32[np.ndarray, "images classes"]:
        checked = torch.tensor(checked_features(features, self.feature_dim))
        return np.asarray(class_scores(self.model, self.scaler, checked, class_attributes).numpy())

    def _checked_attributes(self, names: Sequence[str], attributes: Numbers) -> Attributes:
        array = _as_array(attributes)
        expected = (len(names), self.class_attributes.shape[1])
        if array.shape != expected or array.dtype.kind not in "iuf":
            raise InputError(
                f"attributes must be numbers of shape {expected}, but got {array.dtype} of shape "
                f"{array.shape}"
            )
        vectors = torch.tensor(as_float32(array))
        lengths = vectors.norm(dim=1)
        if not lengths.isfinite().all():
            bad = names[int((~lengths.isfinite()).nonzero()[0])]
            raise InputError(f"attributes must be finite, but those of {bad!r} are not")
        furthest = int((lengths - 1).abs().argmax())
        own = (self.class_attributes.norm(dim=1) - 1).abs()
        if (own <= NORM_TOLERANCE).all() and (lengths[furthest] - 1).abs() > NORM_TOLERANCE:
            raise InputError(
                "the attribute vector of a class must have length 1, like those of the model's "
                f"classes, but that of {names[furthest]!r} has length {lengths[furthest]:.4g}; "
                "divide it by its length"
            )
        return vectors


def checked_features(
    features: Numbers, feature_dim: int, *, first_image: int = 0
) -> Float32[np.ndarray, "images features"]:
    """Return features in the form used for computing, or refuse them.

    Args:
        features: (images, features); a NumPy array, a data frame or a tensor on any device.
        feature_dim: The width that they must have.
        first_image: The number of their first row, for error messages.

    Raises:
        InputError: They are not numbers, have the wrong shape, are empty, or are not finite.
    """
    array = _as_array(features)
    if array.dtype.kind not in "iuf":
        raise InputError(f"features must be real numbers, but got {array.dtype}")
    if array.ndim != 2 or array.shape[1] != feature_dim:
        raise InputError(
            f"features must have the shape (images, {feature_dim}), but got {array.shape}"
        )
    if not len(array):
        raise InputError("features must be of at least one image, but got none")
    numbers = as_float32(array)
    if len(bad := not_finite(numbers)):
        raise InputError(
            f"features must be finite in float32, but those of {len(bad):,} images are not; the "
            f"first is image {first_image + bad[0]:,} (counting from 0)"
        )
    return numbers


def _as_array(numbers: Numbers) -> np.ndarray:
    if isinstance(numbers, Tensor):
        return np.asarray(numbers.detach().cpu().numpy())
    return np.asarray(numbers)
