"""Reads a folder in the field's layout: ``res101.mat`` and ``att_splits.mat``.

``train_loc`` and ``val_loc`` are never read: in circulating copies their union contains every test
image of the seen classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Int64

from mianet.data.images import PARTS, Checks, DatasetSpec, ImageSet, as_float32
from mianet.data.matfiles import read_mat
from mianet.errors import InputError

Attributes: TypeAlias = Float32[np.ndarray, "classes attributes"]

FEATURES_FILE = "res101.mat"
SPLITS_FILE = "att_splits.mat"
NAMES = "allclasses_names"
IMAGE_FILES = "image_files"  # the variable of FEATURES_FILE that may name the file of each image
MAX_SPLITS_BYTES = 16 * 2**20
"""Read limit for a published SPLITS_FILE, unpacked; the largest one, FLO's, has 1 MB."""
MAX_WIDTH_RATIO = 4
"""How many times wider than published the features may be; no more than that is ever read."""
MAX_UNPACK_RATIO = 16  # how many times its own size an unpublished file may unpack to
LARGEST_NUMBER = 2**31
"""Whole numbers in a file must be smaller; a larger one cannot index an array."""


def read_splits(
    folder: Path, spec: DatasetSpec | None
) -> tuple[dict[str, Int64[np.ndarray, " _"]], Attributes, tuple[str, ...]]:
    """Return 0-based rows of each part, class attributes and names, checked if published."""
    path = folder / SPLITS_FILE
    numbers, texts = read_mat(
        path,
        ("att", *(f"{part}_loc" for part in PARTS)),
        (NAMES,),
        optional=(NAMES,) if spec is None or spec.lenient else (),
        max_bytes=MAX_SPLITS_BYTES if spec else _max_bytes(path),
    )
    splits = {part: _zero_based(numbers[f"{part}_loc"], f"{part}_loc", path) for part in PARTS}
    attributes, names = numbers["att"], texts.get(NAMES)
    if spec:  # attributes × classes, as published, or the transpose
        is_transposed = attributes.shape != (spec.attribute_dim, spec.classes)
    else:
        rows, columns = attributes.shape
        is_transposed = names is not None and rows == len(names) != columns
    attributes = as_float32(attributes if is_transposed else attributes.T)
    if names is None:
        names = tuple(f"class {k + 1}" for k in range(len(attributes)))
    if spec:
        if spec.lenient:
            attributes = unit_length(attributes)
        checks = Checks(spec, str(path))
        checks.splits(splits, spec.images)
        checks.attributes(attributes, names)
    return splits, attributes, names


def read_folder(folder: Path, spec: DatasetSpec | None) -> ImageSet:
    """Read a folder of the published package, or your own.

    In your own, attributes are scaled to length 1, and images that are in no part of the split are
    left out, as are classes without images.
    """
    if spec is None:
        return without_unused(read_whole(folder)[0])
    splits, attributes, names = read_splits(folder, spec)
    max_bytes = max(MAX_WIDTH_RATIO * 8 * spec.images * (spec.feature_dim + 1), 2**16)
    features, labels = _read_images(folder / FEATURES_FILE, max_bytes)
    return ImageSet(features, labels, attributes, names, **splits)


def read_whole(folder: Path) -> tuple[ImageSet, Attributes]:
    """Read all of your own folder; also return the attributes before their scaling to length 1."""
    splits, attributes, names = read_splits(folder, None)
    path, checks = folder / FEATURES_FILE, Checks(None, str(folder))
    features, labels = _read_images(path, _max_bytes(path))
    checks.splits(splits, len(labels))
    checks.label_range(labels, names)
    checks.shape(attributes, names)
    return ImageSet(features, labels, unit_length(attributes), names, **splits), attributes


def _read_images(
    path: Path, max_bytes: int
) -> tuple[Float32[np.ndarray, "images features"], Int64[np.ndarray, " images"]]:
    numbers, _ = read_mat(path, ("features", "labels"), max_bytes=max_bytes)
    labels = _zero_based(numbers["labels"], "labels", path)
    features = numbers["features"]
    if features.shape[1] == len(labels):  # dimensions × images, as published
        features = features.T
    elif features.shape[0] != len(labels):
        raise InputError(
            f"features in {path} must be dimensions × {len(labels):,} images, to match labels, "
            f"but are {features.shape[0]:,} × {features.shape[1]:,}; give a column for each image"
        )
    return as_float32(features), labels


def without_unused(images: ImageSet) -> ImageSet:
    """Leave out images that are in no part of the split, and classes without images."""
    rows = np.sort(np.concatenate([getattr(images, part) for part in PARTS]))
    classes, labels = np.unique(images.labels[rows], return_inverse=True)
    if len(rows) == len(images.labels) and len(classes) == len(images.class_names):
        return images
    return ImageSet(
        features=images.features[rows],
        labels=labels,
        class_attributes=images.class_attributes[classes],
        class_names=tuple(images.class_names[k] for k in classes),
        **{part: np.searchsorted(rows, getattr(images, part)) for part in PARTS},
    )


def unit_length(vectors: Attributes) -> Attributes:
    """Scale each vector to length 1; leave those that are zero or not finite, to be refused."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    is_sound = np.isfinite(lengths) & (lengths > 0)
    return (vectors / np.where(is_sound, lengths, 1)).astype(np.float32)


def _max_bytes(path: Path) -> int:
    """Return the read limit for your own file; if it is missing, reading it reports that."""
    return MAX_UNPACK_RATIO * (path.stat().st_size if path.is_file() else 0) + 2**24


def _zero_based(matrix: np.ndarray, name: str, path: Path) -> Int64[np.ndarray, " _"]:
    """Return a published 1-based vector of whole numbers as a 0-based one."""
    if min(matrix.shape) != 1:
        raise InputError(
            f"{name} of {path} must be a vector, but its shape is {matrix.shape}; save it as one"
        )
    vector = matrix.ravel()
    with np.errstate(invalid="ignore"):
        is_near = (vector < LARGEST_NUMBER) & (vector > -LARGEST_NUMBER)
        odd = np.flatnonzero(~(is_near & (vector == np.floor(vector))))
    if len(odd):
        raise InputError(
            f"{name} of {path} must be whole numbers, but entry {odd[0] + 1:,} is "
            f"{vector[odd[0]]}; count from 1, as published"
        )
    return vector.astype(np.int64) - 1
