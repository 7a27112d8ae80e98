"""Generated images with a published data set's shape, for benchmarks and tests without files."""

from __future__ import annotations

import zlib

import numpy as np
from jaxtyping import Float32, Int64

from mianet.data.images import DatasetSpec, ImageSet

VERSION = 1  # raised whenever the generated numbers change

CLASS_DEVIATION = 0.03
"""How far a class as seen lies from its attributes, relative to their typical length."""
IMAGE_DEVIATION = 0.15  # how far an image lies from its class, per direction, in the same unit
FEATURE_NOISE = 1.0
"""Standard deviation of what no attribute explains; that of the explained part is 1."""
CHUNK = 4096


def synthetic_stamp(spec: DatasetSpec) -> str:
    """Describe the generator, its settings and the shape: equal text means equal data."""
    shape = (spec.feature_dim, spec.attribute_dim, spec.seen_classes, spec.unseen_classes)
    settings = (CLASS_DEVIATION, IMAGE_DEVIATION, FEATURE_NOISE)
    return f"synthetic {VERSION} {spec.name} {shape} {tuple(spec.split_sizes.values())} {settings}"


def synthetic_images(spec: DatasetSpec) -> ImageSet:
    """Generate a data set of the spec's shape, always the same.

    An image is its class's attribute vector, shifted by a deviation of the class (a description is
    never perfect) and one of the image, then mapped by a random nonnegative matrix, shifted, made
    noisy and clipped at zero, like features after a ReLU. Classes can thus be recognised from
    attributes, above chance but not perfectly, and unseen ones less well than seen ones.
    """
    generator = np.random.default_rng([VERSION, zlib.crc32(spec.name.encode())])
    attributes = _class_attributes(generator, spec)
    labels, parts = _split(generator, spec)
    return ImageSet(
        features=_features(generator, attributes, labels, spec.feature_dim),
        labels=labels,
        class_attributes=attributes,
        class_names=tuple(f"{spec.name} class {c + 1}" for c in range(spec.classes)),
        trainval=parts[0],
        test_seen=parts[1],
        test_unseen=parts[2],
    )


def _class_attributes(
    generator: np.random.Generator, spec: DatasetSpec
) -> Float32[np.ndarray, "classes attributes"]:
    """Return nonnegative vectors of length 1; about a third of their entries are zero."""
    shape = (spec.classes, spec.attribute_dim)
    attributes = generator.random(shape) * (generator.random(shape) < 2 / 3)
    attributes[:, 0] += 0.1  # so that none is all zero
    attributes /= np.linalg.norm(attributes, axis=1, keepdims=True)
    return attributes.astype(np.float32)


def _split(
    generator: np.random.Generator, spec: DatasetSpec
) -> tuple[Int64[np.ndarray, " images"], list[Int64[np.ndarray, " _"]]]:
    """Return labels in random order, and the rows of the three parts; classes have equal size."""
    classes = generator.permutation(spec.classes)
    seen, unseen = classes[: spec.seen_classes], classes[spec.seen_classes :]
    part_labels = (
        np.resize(seen, spec.trainval_images),
        np.resize(seen, spec.test_seen_images),
        np.resize(unseen, spec.test_unseen_images),
    )
    rows = generator.permutation(spec.images)
    parts = np.split(rows, np.cumsum([len(part) for part in part_labels])[:-1])
    labels = np.empty(spec.images, dtype=np.int64)
    labels[rows] = np.concatenate(part_labels)
    return labels, parts


def _features(
    generator: np.random.Generator,
    attributes: Float32[np.ndarray, "classes attributes"],
    labels: Int64[np.ndarray, " images"],
    feature_dim: int,
) -> Float32[np.ndarray, "images features"]:
    attribute_dim = attributes.shape[1]
    spread = attributes.std(axis=0).mean()
    length = spread * np.sqrt(attribute_dim)  # from the mean of all classes to one class
    weights = generator.exponential(size=(attribute_dim, feature_dim)).astype(np.float32)
    weights *= generator.random(weights.shape) < 0.25
    weights /= spread * np.linalg.norm(weights, axis=0).mean()
    seen_as = attributes + CLASS_DEVIATION * length * _noise(generator, *attributes.shape)
    centre = attributes.mean(axis=0) @ weights
    features = np.empty((len(labels), feature_dim), dtype=np.float32)
    for start in range(0, len(labels), CHUNK):
        part = features[start : start + CHUNK]
        images = seen_as[labels[start : start + CHUNK]]
        images = images + IMAGE_DEVIATION * length * _noise(generator, *images.shape)
        generator.standard_normal(out=part, dtype=np.float32)
        part *= FEATURE_NOISE
        part += images @ weights
        part -= centre
        np.maximum(part, 0, out=part)
    return features


def _noise(generator: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return generator.standard_normal((rows, columns), dtype=np.float32)
