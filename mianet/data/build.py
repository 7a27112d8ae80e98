"""Makes a package in the field's layout from features, labels and class attributes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from jaxtyping import Int64

from mianet.data.class_vectors import nearest, read_class_vectors
from mianet.data.extracted import BACKBONE_FILE, Extracted, exposure, read_extracted, write_backbone
from mianet.data.folders import FEATURES_FILE, IMAGE_FILES, SPLITS_FILE, unit_length
from mianet.data.images import PARTS, Checks, ImageSet, as_float32
from mianet.data.inspection import published_split
from mianet.data.tables import read_images, read_labels, read_lines
from mianet.errors import InputError

MIN_SEEN_CLASSES = 3  # validation makes one pseudo-unseen, and needs two others
VALIDATION_SHARE = 0.25
"""Share of the seen classes whose trainval images go to ``val_loc``, for other code."""
LARGEST_V5 = 2**31 - 2**20  # maximum bytes of a variable in a Matlab file before v7.3


def build(
    folder: Path,
    *,
    features: Path,
    key: str,
    labels: Path | None,
    attributes: Path,
    classes: Path | None,
    unseen: str,
    split: Path | None,
    test_seen: float,
    seed: int,
) -> ImageSet:
    """Make a package, whole or not at all; return its contents.

    Args:
        folder: Where to write it; must not exist yet.
        features: File of the features, and of the labels unless ``labels`` is given or
            `python -m mianet.extract` wrote them next to it.
        key: Its array or column of features.
        labels: File with the name of a class, or its number from 0, for each image.
        attributes: File with a vector for each class.
        classes: File with the classes' names in the order of the attributes, if those have none.
        unseen: A file with the names of the unseen classes, or the share of classes to draw.
        split: File with the part of each image, one per line; replaces ``unseen``.
        test_seen: Share of the seen classes' images to draw for testing.
        seed: Seed of the draws.

    Raises:
        InputError: Something does not fit, or the folder cannot be written.
    """
    if folder.exists():
        raise InputError(
            f"the package must go to a new folder, but {folder} already exists; choose another"
        )
    extracted = read_extracted(features)
    vectors, image_labels = _read_images(features, key, labels, extracted)
    known = tuple(read_lines(classes)) if classes else ()
    table = read_class_vectors(attributes, len(known) or None)
    ids, names = _class_ids(image_labels, table.names or known, len(table.attributes))
    if split:
        parts = _given_parts(split, len(ids))
    else:
        parts = _drawn_parts(ids, names, unseen, test_seen, np.random.default_rng(seed))
    used = np.unique(ids)
    described = table.vectors_for({k: names[k] for k in used.tolist()}, len(names))
    images = ImageSet(
        features=as_float32(vectors),
        labels=np.searchsorted(used, ids),
        class_attributes=unit_length(as_float32(described)),
        class_names=tuple(names[k] for k in used),
        **parts,
    )
    _require_both_kinds(images)
    Checks(None, str(folder)).images(images)
    _write(images, described, folder, seed, extracted)
    return images


def _require_both_kinds(images: ImageSet) -> None:
    seen, unseen = images.class_counts
    if seen < MIN_SEEN_CLASSES or not unseen:
        raise InputError(
            f"a split must have at least {MIN_SEEN_CLASSES} seen classes and an unseen one, but "
            f"has {seen} and {unseen}; choose fewer or other unseen classes"
        )


def _read_images(
    path: Path, key: str, labels_from: Path | None, extracted: Extracted | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return features, and a label for each image, by name or number."""
    features, labels = read_images(path, key)
    if labels_from:
        labels = read_labels(labels_from)
    elif labels is None and extracted and extracted.labels:
        labels = np.array(extracted.labels)
    if labels is None:
        raise InputError(
            f"the images in {path} must have labels, but there are none; give them with --labels"
        )
    if len(labels) != len(features):
        raise InputError(
            f"each of the {len(features):,} images must have a label, but there are "
            f"{len(labels):,}; give one for each, in the order of the features"
        )
    return features, labels


def _class_ids(
    labels: np.ndarray, names: tuple[str, ...], count: int
) -> tuple[Int64[np.ndarray, " images"], tuple[str, ...]]:
    """Return each image's class as a position, and the classes' names."""
    if labels.dtype.kind in "iuf":
        numbers = labels.astype(np.int64)
        if (numbers != labels).any() or numbers.min() < 0 or numbers.max() >= count:
            raise InputError(
                f"numeric labels must be whole numbers from 0 to {count - 1}, but go from "
                f"{labels.min()} to {labels.max()}; correct them, or use class names as labels"
            )
        return numbers, names or tuple(f"class {k}" for k in range(count))
    if not names:
        raise InputError(
            "classes must have names, since the labels are names, but the attributes have none; "
            "give them with --classes, one per line"
        )
    if len(names) != count:
        raise InputError(f"--classes must name {count:,} classes, but names {len(names):,}")
    places = {name: k for k, name in enumerate(names)}
    texts = [str(label).strip() for label in labels]
    for text in dict.fromkeys(texts):
        if text not in places:
            raise InputError(
                f"each class in the labels must have attributes, but {text!r} has none"
                f"{nearest(text, names)}"
            )
    return np.array([places[text] for text in texts], dtype=np.int64), names


def _given_parts(path: Path, images: int) -> dict[str, Int64[np.ndarray, " _"]]:
    """Read which part each image is in; ``-`` means none."""
    lines = np.array(read_lines(path))
    if len(lines) != images:
        raise InputError(
            f"{path} must have the part of each of the {images:,} images, one per line, but has "
            f"{len(lines):,} lines"
        )
    if odd := sorted(set(lines.tolist()) - {*PARTS, "-"}):
        raise InputError(f"lines in {path} must be {', '.join(PARTS)} or -, but one is {odd[0]!r}")
    parts = {part: np.flatnonzero(lines == part) for part in PARTS}
    if empty := [part for part, rows in parts.items() if not len(rows)]:
        raise InputError(f"{path} must assign images to each part, but {empty[0]} has none")
    return parts


def _drawn_parts(
    labels: Int64[np.ndarray, " images"],
    names: Sequence[str],
    unseen: str,
    test_seen: float,
    generator: np.random.Generator,
) -> dict[str, Int64[np.ndarray, " _"]]:
    """Draw test images, a share of each seen class, and possibly the unseen classes."""
    is_unseen = np.isin(labels, _unseen_classes(unseen, np.unique(labels), names, generator))
    is_test_seen = np.zeros(len(labels), dtype=bool)
    by_class = np.argsort(np.where(is_unseen, -1, labels), kind="stable")[is_unseen.sum() :]
    for rows in np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1):
        if len(rows) == 1:
            raise InputError(
                "a seen class must have an image to train on and one to test on, but "
                f"{names[labels[rows[0]]]!r} has only one; add images or leave it out"
            )
        share = min(max(round(test_seen * len(rows)), 1), len(rows) - 1)
        is_test_seen[generator.permutation(rows)[:share]] = True
    return {
        "trainval": np.flatnonzero(~is_unseen & ~is_test_seen),
        "test_seen": np.flatnonzero(is_test_seen),
        "test_unseen": np.flatnonzero(is_unseen),
    }


def _unseen_classes(
    unseen: str, classes: np.ndarray, names: Sequence[str], generator: np.random.Generator
) -> Int64[np.ndarray, " unseen"]:
    """Return the unseen classes: those named in a file, or a drawn share."""
    try:
        share = float(unseen)
    except ValueError:
        share = -1
    if 0 < share < 1:
        return np.sort(generator.permutation(classes)[: max(1, round(share * len(classes)))])
    if not Path(unseen).is_file():
        raise InputError(
            f"--unseen must be a share between 0 and 1, or a file of class names, but got "
            f"{unseen!r}"
        )
    with_images = {names[k]: k for k in classes}
    wanted = list(dict.fromkeys(read_lines(Path(unseen))))
    for name in wanted:
        if name not in with_images:
            raise InputError(
                f"unseen classes must have images, but {name!r} in {unseen} has none"
                f"{nearest(name, list(with_images))}"
            )
    return np.sort(np.array([with_images[name] for name in wanted], dtype=np.int64))


def _write(
    images: ImageSet, vectors: np.ndarray, folder: Path, seed: int, extracted: Extracted | None
) -> None:
    train, validation = _train_and_validation(images, seed)
    rows = {**{part: getattr(images, part) for part in PARTS}, "train": train, "val": validation}
    splits: dict[str, Any] = {
        "att": images.class_attributes.T.astype(np.float64),
        "original_att": vectors.T,
        "allclasses_names": _cells(images.class_names),
        **{f"{part}_loc": (found + 1.0)[:, None] for part, found in rows.items()},
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _save_images(work / FEATURES_FILE, images, extracted)
            if extracted:
                backbone = extracted.backbone
                warning = exposure(backbone, published_split(images))
                write_backbone(work / BACKBONE_FILE, replace(backbone, warning=warning))
            scipy.io.savemat(work / SPLITS_FILE, splits, do_compression=True)
            work.chmod(0o755)
            work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"the package must go to a writable folder with enough free space, but {folder} fails "
            f"({error}); choose another"
        ) from error


def _cells(texts: Sequence[str]) -> np.ndarray:
    cells = np.empty((len(texts), 1), dtype=object)
    cells[:, 0] = list(texts)
    return cells


def _save_images(path: Path, images: ImageSet, extracted: Extracted | None) -> None:
    """Write features and labels; as v7.3, which is HDF5, if too large for the older format.

    The older format also gets the images' file names, if known.
    """
    variables = {"features": images.features.T, "labels": (images.labels + 1.0)[:, None]}
    if images.features.nbytes < LARGEST_V5:
        files = {IMAGE_FILES: _cells(extracted.images)} if extracted else {}
        scipy.io.savemat(path, {**variables, **files}, do_compression=True)
        return
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in variables.items():
            file.create_dataset(name, data=array.T).attrs["MATLAB_class"] = np.bytes_(
                "single" if array.dtype == np.float32 else "double"
            )
    with path.open("r+b") as raw:  # the user block identifies the file type
        raw.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM")


def _train_and_validation(
    images: ImageSet, seed: int
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " validation"]]:
    """Split the trainval images by class, as other code in the field needs it."""
    labels = images.labels[images.trainval]
    seen = np.random.default_rng(seed).permutation(np.unique(labels))
    is_validation = np.isin(labels, seen[: max(1, round(VALIDATION_SHARE * len(seen)))])
    return images.trainval[~is_validation], images.trainval[is_validation]
