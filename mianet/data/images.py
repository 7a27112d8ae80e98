"""What a source of images must hold, and the checks that it does.

A source is what the field publishes per data set (Xian et al., "Zero-Shot Learning: A Comprehensive
Evaluation of the Good, the Bad and the Ugly", proposed split): features, labels, class attributes,
and three disjoint lists of images. The lists ``train_loc`` and ``val_loc`` of the published files
are never read: in circulating copies their union contains every test image of the seen classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from mianet.errors import InputError

PARTS = ("trainval", "test_seen", "test_unseen")
"""The parts of a split, as ImageSet names them; the files append ``_loc``."""
NORM_TOLERANCE = 1e-3
"""How far from 1 the length of a class's attribute vector may be."""


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


@dataclass(frozen=True)
class EmbeddedSource:
    """A data set that installed packages hold, so that it needs no files.

    Attributes:
        stamp: Returns a short text that changes whenever the images would; cheap.
        read: Returns the images.
    """

    stamp: Callable[[], str]
    read: Callable[[], ImageSet]


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """What is published about a data set; a file that says otherwise is refused.

    Attributes:
        name: Lower-case key.
        title: The name as it is printed.
        folder: Folder of ``res101.mat`` and ``att_splits.mat`` in the package, None for embedded.
        feature_dim: Published width d of the features. A file may have another; synthetic has this.
        attribute_dim: Number l of attributes of a class.
        seen_classes: Classes of the trainval images.
        unseen_classes: Classes without a single trainval image.
        trainval_images: Images that a search and a training may use.
        test_seen_images: Test images of the seen classes.
        test_unseen_images: Test images of the unseen classes.
        paper_settings: Where the paper's configuration differs from Hyperparameters' defaults.
        lenient: Attribute vectors are scaled to length 1 when read, and classes may lack names.
        embedded: The reader of an embedded data set, None where there is a folder.
    """

    name: str
    title: str
    folder: str | None
    feature_dim: int
    attribute_dim: int
    seen_classes: int
    unseen_classes: int
    trainval_images: int
    test_seen_images: int
    test_unseen_images: int
    paper_settings: Mapping[str, Any] = field(default_factory=dict)
    embedded: EmbeddedSource | None = None
    lenient: bool = False

    @property
    def classes(self) -> int:
        """Number of classes, seen and unseen."""
        return self.seen_classes + self.unseen_classes

    @property
    def images(self) -> int:
        """Number of images; each is in exactly one part of the split."""
        return self.trainval_images + self.test_seen_images + self.test_unseen_images

    @property
    def split_sizes(self) -> Mapping[str, int]:
        """Number of images of each part, by the names of ImageSet."""
        return {
            "trainval": self.trainval_images,
            "test_seen": self.test_seen_images,
            "test_unseen": self.test_unseen_images,
        }


def check_images(images: ImageSet, spec: DatasetSpec | None, origin: str) -> None:
    """Check that the parts of a data set fit each other, and what is published about it.

    Args:
        images: What was read.
        spec: What is published; None for a folder of one's own, whose files give the counts.
        origin: Where it was read, for the message.

    Raises:
        InputError: The first thing that is not so.
    """
    splits = {name: getattr(images, name) for name in PARTS}
    check_splits(splits, spec, origin, len(images.labels))
    check_labels(images, spec, origin)
    check_attributes(images.class_attributes, images.class_names, spec, origin)
    check_features(images.features, len(images.labels), origin)


def check_splits(
    splits: Mapping[str, Int64[np.ndarray, " _"]],
    spec: DatasetSpec | None,
    origin: str,
    images: int = 0,
) -> None:
    """Check the parts of a split: published sizes, range, disjoint.

    Args:
        splits: Part → rows of its images, 0-based.
        spec: What is published; None for a folder of one's own.
        origin: Where they were read, for the message.
        images: Number of images, where nothing is published.

    Raises:
        InputError: The first thing that is not so.
    """
    images = spec.images if spec else images
    for name, rows in splits.items():
        if spec and len(rows) != spec.split_sizes[name]:
            raise InputError(
                f"{spec.title} must have {spec.split_sizes[name]:,} {name} images as published, "
                f"but {name}_loc of {origin} has {len(rows):,}; use the files of the proposed split"
            )
        if rows.min() < 0 or rows.max() >= images:
            raise InputError(
                f"{name}_loc of {origin} must be between 1 and {images:,}, but goes from "
                f"{rows.min() + 1:,} to {rows.max() + 1:,}; count images from 1, as published"
            )
    counts = np.bincount(np.concatenate(list(splits.values())), minlength=images)
    if counts.max() > 1:
        image = int(counts.argmax())
        parts = [name for name, rows in splits.items() for _ in range(int((rows == image).sum()))]
        raise InputError(
            f"the splits of {origin} must be disjoint and without repetition, but image "
            f"{image + 1:,} is in {' and in '.join(f'{name}_loc' for name in parts)}; "
            f"{int((counts > 1).sum()):,} images are listed more than once; list each once"
        )


def check_labels(images: ImageSet, spec: DatasetSpec | None, origin: str) -> None:
    """Check the labels' range, and which classes each part of the split has.

    Args:
        images: The images, their labels and parts.
        spec: The published sizes; None for a folder of one's own.
        origin: What messages call the source.

    Raises:
        InputError: The first thing that is not so.
    """
    labels, names = images.labels, images.class_names
    if spec and len(labels) != spec.images:
        raise InputError(
            f"{spec.title} must have {spec.images:,} images as published, but labels of {origin} "
            f"has {len(labels):,}; res101.mat and att_splits.mat must be of one data set"
        )
    if labels.min() < 0 or labels.max() >= len(names):
        raise InputError(
            f"labels of {origin} must be between 1 and {len(names)}, but go from "
            f"{labels.min() + 1} to {labels.max() + 1}; count classes from 1, as published"
        )
    classes = {part: set(labels[getattr(images, part)].tolist()) for part in PARTS}
    if spec:
        _check_class_count("seen", "trainval", len(classes["trainval"]), spec.seen_classes, origin)
        _check_class_count(
            "unseen", "test_unseen", len(classes["test_unseen"]), spec.unseen_classes, origin
        )
    if difference := classes["trainval"] ^ classes["test_seen"]:
        raise InputError(
            f"test_seen_loc of {origin} must have the classes of trainval_loc, but only one of the "
            f"two has {_class_list(difference, names)}; {_remedy(spec)}"
        )
    if overlap := classes["trainval"] & classes["test_unseen"]:
        raise InputError(
            f"classes of test_unseen_loc of {origin} must not be in trainval_loc, but "
            f"{_class_list(overlap, names)} are in both; {_remedy(spec)}"
        )


def check_attributes(
    attributes: Float32[np.ndarray, "_ _"],
    names: tuple[str, ...],
    spec: DatasetSpec | None,
    origin: str,
) -> None:
    """Check that each class has a name and a finite attribute vector of length 1.

    Args:
        attributes: (classes, attributes).
        names: A name a class.
        spec: The published sizes; None for a folder of one's own.
        origin: What messages call the source.

    Raises:
        InputError: The first thing that is not so.
    """
    check_shape(attributes, names, origin, spec)
    counts = Counter(names)
    if unclear := sorted(name for name, count in counts.items() if not name or count > 1):
        raise InputError(
            f"allclasses_names of {origin} must give each class a name of its own, but "
            f"{unclear[0]!r} stands for {counts[unclear[0]]} classes; name them apart"
        )
    bad = ~np.isfinite(attributes).all(axis=1)
    if bad.any():
        raise InputError(
            f"att of {origin} must be finite, but has NaN or infinity for "
            f"{_class_list(np.flatnonzero(bad).tolist(), names)}; {_remedy(spec)}"
        )
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(attributes, axis=1)
    worst = int(np.abs(norms - 1).argmax())
    if abs(norms[worst] - 1) > NORM_TOLERANCE:
        raise InputError(
            f"att of {origin} must have a vector of length 1 for each class, but that of "
            f"{names[worst]!r} has length {norms[worst]:.4g}; divide each column by its L2 norm"
        )
    _check_distinct(attributes, names, origin)


def check_shape(
    attributes: Float32[np.ndarray, "_ _"],
    names: tuple[str, ...],
    origin: str,
    spec: DatasetSpec | None = None,
) -> None:
    """Check that there are a vector and a name for each class.

    Args:
        attributes: (classes, attributes).
        names: A name a class.
        origin: What messages call the source.
        spec: The published sizes; None for a folder of one's own.

    Raises:
        InputError: There are more or fewer.
    """
    classes = spec.classes if spec else len(names)
    width = spec.attribute_dim if spec else attributes.shape[1]
    if attributes.shape != (classes, width):
        raise InputError(
            f"att of {origin} must be {width} attributes × {classes} classes, "
            f"but is {attributes.shape[1]} × {attributes.shape[0]}; {_remedy(spec)}"
        )
    if len(names) != classes:
        raise InputError(
            f"allclasses_names of {origin} must name {classes} classes, but names "
            f"{len(names)}; {_remedy(spec)}"
        )


def check_features(features: Float32[np.ndarray, "_ _"], images: int, origin: str) -> None:
    """Check that there is one finite feature vector per image.

    Args:
        features: (images, features).
        images: How many images there are labels for.
        origin: What messages call the source.

    Raises:
        InputError: The first thing that is not so.
    """
    if len(features) != images or features.shape[1] == 0:
        raise InputError(
            f"features of {origin} must be dimensions × {images:,} images, but is "
            f"{features.shape[1]:,} × {len(features):,}; give one column for each image"
        )
    # One sum per image is finite where all its features are, without a mask of the whole array.
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~np.isfinite(features.sum(axis=1, dtype=np.float64)))
    if len(bad):
        raise InputError(
            f"features of {origin} must be finite in float32, but {len(bad):,} images have NaN or "
            f"infinity, the first is image {bad[0] + 1:,}; make the features anew"
        )


def _remedy(spec: DatasetSpec | None) -> str:
    return "use the published file" if spec else "correct it, or build the package anew"


def _check_class_count(kind: str, part: str, given: int, published: int, origin: str) -> None:
    if given != published:
        raise InputError(
            f"{part}_loc of {origin} must have images of {published} {kind} classes as published, "
            f"but has images of {given}; use the published files"
        )


def _check_distinct(
    attributes: Float32[np.ndarray, "_ _"], names: tuple[str, ...], origin: str
) -> None:
    """Check that no two classes have equal attributes: one of them could never be predicted."""
    seen: dict[bytes, int] = {}
    for k, vector in enumerate(attributes):
        twin = seen.setdefault(vector.tobytes(), k)
        if twin != k:
            raise InputError(
                f"att of {origin} must tell classes apart, but {names[twin]!r} and {names[k]!r} "
                "have equal vectors; add an attribute in which they differ"
            )


def _class_list(classes: set[int] | list[int], names: tuple[str, ...]) -> str:
    named = sorted(names[c] if c < len(names) else f"class {c + 1}" for c in classes)
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
