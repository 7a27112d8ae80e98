"""What a source of images must contain, and the checks that it does.

A source follows the published one (Xian et al., "Zero-Shot Learning: A Comprehensive Evaluation of
the Good, the Bad and the Ugly", proposed split).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from mianet.errors import InputError

PARTS = ("trainval", "test_seen", "test_unseen")
"""The parts of a split, as named in ImageSet; the files append ``_loc``."""
NORM_TOLERANCE = 1e-3  # how far from 1 the length of a class's attribute vector may be


@dataclass(frozen=True)
class ImageSet:
    """All images and classes of a data set, with its published split; ids and rows are 0-based."""

    features: Float32[np.ndarray, "images features"]
    labels: Int64[np.ndarray, " images"]
    class_attributes: Float32[np.ndarray, "classes attributes"]
    class_names: tuple[str, ...]
    trainval: Int64[np.ndarray, " trainval"]
    test_seen: Int64[np.ndarray, " test_seen"]
    test_unseen: Int64[np.ndarray, " test_unseen"]

    @property
    def class_counts(self) -> tuple[int, int]:
        """Return how many seen and how many unseen classes there are."""
        seen, unseen = (np.unique(self.labels[rows]) for rows in (self.trainval, self.test_unseen))
        return len(seen), len(unseen)


@dataclass(frozen=True)
class DatasetSpec:
    """What is published about a data set; a file that disagrees is refused."""

    name: str  # lower case; ``title`` is printed
    title: str
    folder: str | None  # that has the two files; None if an installed package has the data
    feature_dim: int  # of the published features; a file may have another width
    attribute_dim: int  # l, per class
    seen_classes: int
    unseen_classes: int  # without any trainval image
    trainval_images: int
    test_seen_images: int
    test_unseen_images: int
    paper_settings: Mapping[str, Any] = field(default_factory=dict)  # that differ from the defaults
    lenient: bool = False  # vectors are scaled to length 1, classes may lack names

    @property
    def classes(self) -> int:
        return self.seen_classes + self.unseen_classes

    @property
    def images(self) -> int:
        return sum(self.split_sizes.values())

    @property
    def split_sizes(self) -> Mapping[str, int]:
        """Number of images of each part, by the names of ImageSet."""
        return {part: getattr(self, f"{part}_images") for part in PARTS}


@dataclass(frozen=True)
class Checks:
    """Checks of what was read; each raises an InputError at the first failure."""

    spec: DatasetSpec | None  # None for your own folder
    origin: str

    def images(self, images: ImageSet) -> None:
        self.splits({part: getattr(images, part) for part in PARTS}, len(images.labels))
        self.labels(images)
        self.attributes(images.class_attributes, images.class_names)
        self.features(images.features, len(images.labels))

    def splits(self, splits: Mapping[str, Int64[np.ndarray, " _"]], images: int) -> None:
        """Check the parts of a split of ``images`` images: published sizes, range, disjointness."""
        images = self.spec.images if self.spec else images
        for name, rows in splits.items():
            if self.spec and len(rows) != self.spec.split_sizes[name]:
                raise InputError(
                    f"{self.spec.title} must have {self.spec.split_sizes[name]:,} {name} images as "
                    f"published, but {name}_loc of {self.origin} has {len(rows):,}; use the files "
                    "of the proposed split"
                )
            if rows.min() < 0 or rows.max() >= images:
                raise InputError(
                    f"{name}_loc of {self.origin} must be between 1 and {images:,}, but goes from "
                    f"{rows.min() + 1:,} to {rows.max() + 1:,}; count images from 1, as published"
                )
        counts = np.bincount(np.concatenate(list(splits.values())), minlength=images)
        if counts.max() > 1:
            image = int(counts.argmax())
            parts = [f"{name}_loc" for name, rows in splits.items() for row in rows if row == image]
            raise InputError(
                f"the splits of {self.origin} must be disjoint and without repetition, but image "
                f"{image + 1:,} is in {' and in '.join(parts)}; {(counts > 1).sum():,} images are "
                "listed more than once; list each once"
            )

    def label_range(self, labels: Int64[np.ndarray, " images"], names: Sequence[str]) -> None:
        """Check that each label is the number of a class."""
        if labels.min() < 0 or labels.max() >= len(names):
            raise InputError(
                f"labels of {self.origin} must be between 1 and {len(names)}, but go from "
                f"{labels.min() + 1} to {labels.max() + 1}; count classes from 1, as published"
            )

    def labels(self, images: ImageSet) -> None:
        """Check the labels' range, and which classes each part of the split has."""
        labels, names = images.labels, images.class_names
        if self.spec and len(labels) != self.spec.images:
            raise InputError(
                f"{self.spec.title} must have {self.spec.images:,} images as published, but labels "
                f"of {self.origin} has {len(labels):,}; use res101.mat and att_splits.mat of the "
                "same data set"
            )
        self.label_range(labels, names)
        classes = {part: set(labels[getattr(images, part)].tolist()) for part in PARTS}
        if self.spec:
            for kind, part in (("seen", "trainval"), ("unseen", "test_unseen")):
                published = getattr(self.spec, f"{kind}_classes")
                if len(classes[part]) != published:
                    raise InputError(
                        f"{part}_loc of {self.origin} must have images of {published} {kind} "
                        f"classes as published, but has images of {len(classes[part])}; use the "
                        "published files"
                    )
        if difference := classes["trainval"] ^ classes["test_seen"]:
            raise InputError(
                f"test_seen_loc of {self.origin} must have the classes of trainval_loc, but only "
                f"one of the two has {listed(difference, names)}; {self._remedy}"
            )
        if overlap := classes["trainval"] & classes["test_unseen"]:
            raise InputError(
                f"classes of test_unseen_loc of {self.origin} must not be in trainval_loc, but "
                f"{listed(overlap, names)} are in both; {self._remedy}"
            )

    def shape(self, attributes: Float32[np.ndarray, "_ _"], names: Sequence[str]) -> None:
        """Check that each class has a vector (a row) and a name."""
        classes = self.spec.classes if self.spec else len(names)
        width = self.spec.attribute_dim if self.spec else attributes.shape[1]
        if attributes.shape != (classes, width):
            raise InputError(
                f"att of {self.origin} must be {width} attributes × {classes} classes, "
                f"but is {attributes.shape[1]} × {attributes.shape[0]}; {self._remedy}"
            )
        if len(names) != classes:
            raise InputError(
                f"allclasses_names of {self.origin} must name {classes} classes, but names "
                f"{len(names)}; {self._remedy}"
            )

    def attributes(self, attributes: Float32[np.ndarray, "_ _"], names: Sequence[str]) -> None:
        """Check that each class has a unique name and a unique vector, finite and of length 1."""
        self.shape(attributes, names)
        counts = Counter(names)
        if unclear := sorted(name for name, count in counts.items() if not name or count > 1):
            raise InputError(
                f"allclasses_names of {self.origin} must give each class a unique name, but "
                f"{counts[unclear[0]]} classes are named {unclear[0]!r}; rename them"
            )
        bad = ~np.isfinite(attributes).all(axis=1)
        if bad.any():
            raise InputError(
                f"att of {self.origin} must be finite, but has NaN or infinity for "
                f"{listed(np.flatnonzero(bad).tolist(), names)}; {self._remedy}"
            )
        with np.errstate(over="ignore"):
            norms = np.linalg.norm(attributes, axis=1)
        worst = int(np.abs(norms - 1).argmax())
        if abs(norms[worst] - 1) > NORM_TOLERANCE:
            raise InputError(
                f"att of {self.origin} must have a vector of length 1 for each class, but that of "
                f"{names[worst]!r} has length {norms[worst]:.4g}; divide each column by its L2 norm"
            )
        first: dict[bytes, int] = {}
        for k, vector in enumerate(attributes):
            twin = first.setdefault(vector.tobytes(), k)
            if twin != k:  # one of them could never be predicted
                raise InputError(
                    f"att of {self.origin} must distinguish classes, but {names[twin]!r} and "
                    f"{names[k]!r} have equal vectors; add an attribute in which they differ"
                )

    def features(self, features: Float32[np.ndarray, "_ _"], images: int) -> None:
        """Check that each image has one finite feature vector (a row)."""
        if len(features) != images or features.shape[1] == 0:
            raise InputError(
                f"features of {self.origin} must be dimensions × {images:,} images, but are "
                f"{features.shape[1]:,} × {len(features):,}; give a column for each image"
            )
        if len(bad := not_finite(features)):
            raise InputError(
                f"features of {self.origin} must be finite in float32, but {len(bad):,} images "
                f"have NaN or infinity, the first one image {bad[0] + 1:,}; extract them again"
            )

    @property
    def _remedy(self) -> str:
        return "use the published file" if self.spec else "correct it, or rebuild the package"


def not_finite(features: Float32[np.ndarray, "images _"]) -> Int64[np.ndarray, " rows"]:
    """Return the images with a feature that is NaN or infinite."""
    # An image's sum is finite if all its features are; this avoids a mask of the whole array.
    with np.errstate(invalid="ignore"):
        return np.flatnonzero(~np.isfinite(features.sum(axis=1, dtype=np.float64)))


def as_float32(array: np.ndarray) -> Float32[np.ndarray, "*shape"]:
    """Convert to single precision; numbers too large become infinite, to be refused."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def listed(classes: Iterable[int], names: Sequence[str]) -> str:
    """List the names of classes, at most three of them."""
    named = sorted(names[c] for c in classes)
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
