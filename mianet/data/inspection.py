"""Describes what is in a package, and warns of known pitfalls."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

from mianet.data.extracted import BACKBONE_FILE, exposure, read_backbone
from mianet.data.folders import FEATURES_FILE, SPLITS_FILE, read_whole, without_unused
from mianet.data.images import NORM_TOLERANCE, PARTS, Checks, ImageSet, listed
from mianet.data.matfiles import read_arrays

PUBLISHED: Mapping[str, str] = {
    "2744005026795ec94f86231a0c5742cf": "SUN",
    "3e7bff829d7794565b8fcdba11a6ce26": "CUB",
    "7d371e34e922d0b6e986d224abd26a92": "AWA1",
    "1e848c029c3fbd866a1eba4143f1d577": "AWA2",
    "210b6ee63e31db65f261d91aca393ea9": "aPY",
}
"""Digest of the index sets of the three parts → the data set with that proposed split (PS)."""


def inspect(folder: Path) -> tuple[list[str], list[str]]:
    """Return, as lines, what is in a package and what is odd about it."""
    images, attributes = read_whole(folder)
    others = {
        name: array.ravel().astype(np.int64) - 1
        for name, array in read_arrays(folder / SPLITS_FILE, "train_loc", "val_loc").items()
    }
    warnings = list(_warnings(images, attributes, others))
    Checks(None, str(folder)).images(without_unused(images))
    contents = _contents(folder, images, others)
    if backbone := read_backbone(folder / BACKBONE_FILE):
        contents.append(f"backbone:   {backbone.label}, trained on {backbone.trained_on}")
        if warning := exposure(backbone, published_split(images)):
            warnings.append(warning)
    return contents, warnings


def _contents(folder: Path, images: ImageSet, others: Mapping[str, np.ndarray]) -> list[str]:
    sizes = {part: len(getattr(images, part)) for part in PARTS}
    unused = len(images.labels) - sum(sizes.values())
    seen, unseen = images.class_counts
    return [
        f"package:    {folder} ({FEATURES_FILE}, {SPLITS_FILE})",
        f"images:     {len(images.labels):,}: "
        + ", ".join(f"{count:,} {part}" for part, count in sizes.items())
        + (f", {unused:,} in no part" if unused else ""),
        f"classes:    {seen} seen, {unseen} unseen",
        f"features:   {images.features.shape[1]:,} per image",
        f"attributes: {images.class_attributes.shape[1]:,} per class",
        f"split:      {_split(images, others)}",
    ]


def published_split(images: ImageSet) -> str | None:
    """Return the data set whose proposed split these index sets are; None for any other split."""
    digest = hashlib.sha256()
    for part in PARTS:
        digest.update(np.sort(getattr(images, part)).astype("<u4").tobytes() + b"|")
    return PUBLISHED.get(digest.hexdigest()[:32])


def _split(images: ImageSet, others: Mapping[str, np.ndarray]) -> str:
    """Name the published split that the index sets match, or say that it is your own."""
    dataset = published_split(images)
    if dataset is None:
        return "own"
    if not others:
        return f"proposed split of {dataset} (no train_loc, which tells version 1 from 2)"
    version = 1 if len(_leaked(images, others)) else 2
    return f"proposed split of {dataset}, version {version}"


def _leaked(images: ImageSet, others: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the test-seen images that are in train_loc and val_loc."""
    return np.intersect1d(images.test_seen, np.concatenate([*others.values(), [-1]]))


def _warnings(
    images: ImageSet, attributes: np.ndarray, others: Mapping[str, np.ndarray]
) -> Iterator[str]:
    """Warn of what is odd; attributes are as in the file, before scaling."""
    if count := len(_leaked(images, others)):
        yield (
            f"train_loc and val_loc contain {count:,} test-seen images; they are not read here, "
            "but other code that trains on them tests on training images"
        )
    if empty := sorted(set(range(len(images.class_names))) - set(images.labels.tolist())):
        names = listed(empty, images.class_names)
        yield f"{len(empty)} classes have no images and are left out: {names}"
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(attributes, axis=1)
    if (np.abs(lengths - 1) > NORM_TOLERANCE).any():
        yield (
            f"attributes are not normalised: lengths go from {lengths.min():.3g} to "
            f"{lengths.max():.3g}; they are scaled to 1 when read"
        )
    if constant := (np.ptp(attributes, axis=0) == 0).sum():
        yield f"{constant} attributes are the same for all classes, so they distinguish none"

    if constant := (np.ptp(images.features, axis=0) == 0).sum():
        yield f"{constant:,} features are the same for all images"
    hashes = np.array(
        [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in images.features],
        dtype="S16",
    )
    for first, second in combinations(PARTS, 2):
        rows = getattr(images, first)
        twins = np.isin(hashes[rows], hashes[getattr(images, second)])
        if twins.any():
            yield (
                f"{twins.sum():,} images of {first} have the same features as one of {second}, "
                f"such as image {rows[twins][0] + 1:,}"
            )
