"""The test images and the unseen classes; the only module that opens the store's test parts.

Only the final evaluation imports this module; nothing that a search runs ever does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Int64

from mianet.data.class_vectors import open_embedding
from mianet.data.folders import FEATURES_FILE, IMAGE_FILES, read_splits
from mianet.data.matfiles import read_mat
from mianet.data.sources import open_source
from mianet.data.store import open_part
from mianet.errors import InputError


@dataclass(frozen=True)
class TestParts:
    """The test images of seen and unseen classes, and all classes.

    Labels and the ascending lists of classes are ids: 0-based rows of the attributes, which have
    length 1. Features are read-only and memory-mapped.
    """

    __test__: ClassVar[bool] = False  # pytest would collect the class because of its name

    class_attributes: Float32[np.ndarray, "classes attributes"]
    class_names: tuple[str, ...]
    seen_classes: Int64[np.ndarray, " seen"]
    unseen_classes: Int64[np.ndarray, " unseen"]
    test_seen_features: Float32[np.ndarray, "test_seen features"]
    test_seen_labels: Int64[np.ndarray, " test_seen"]
    test_unseen_features: Float32[np.ndarray, "test_unseen features"]
    test_unseen_labels: Int64[np.ndarray, " test_unseen"]


def load_test_parts(
    name: str, data_dir: Path | None = None, embedding: Sequence[str] = ()
) -> TestParts:
    """Load the test images and all classes of a data set.

    Args:
        name: As for ``mianet.data.sources.open_source``.
        data_dir: Likewise.
        embedding: Files with vectors of all classes, instead of the data set's attributes.
    """
    arrays = dict(open_part(open_source(name, data_dir), "test")[1])
    is_seen = arrays.pop("is_seen")
    names = tuple(arrays.pop("class_names").tolist())
    if other := open_embedding(embedding):
        arrays["class_attributes"] = other.vectors_for(dict(enumerate(names)), len(names))
    return TestParts(
        class_names=names,
        seen_classes=np.flatnonzero(is_seen),
        unseen_classes=np.flatnonzero(~is_seen),
        **arrays,
    )


def unseen_image_names(name: str, data_dir: Path | None = None) -> tuple[str, ...]:
    """Return the name of each unseen test image, in the order of ``TestParts``.

    A name is the path in ``image_files`` of ``res101.mat``. If the file has none, it is
    ``image 17``, the 1-based column of ``features``; if there is no file at all (``numbers`` and
    synthetic data), the position among the unseen test images.
    """
    source = open_source(name, data_dir)
    if source.folder is None:
        count = source.spec.test_unseen_images if source.spec else 0
        return tuple(f"image {row + 1}" for row in range(count))
    splits, _, _ = read_splits(source.folder, source.spec)
    rows = splits["test_unseen"]
    path = source.folder / FEATURES_FILE
    files = read_mat(path, texts=(IMAGE_FILES,), optional=(IMAGE_FILES,))[1].get(IMAGE_FILES)
    if files is None:
        return tuple(f"image {row + 1}" for row in rows)
    images = source.spec.images if source.spec else max(len(files), int(rows.max()) + 1)
    if len(files) != images:
        raise InputError(
            f"{IMAGE_FILES} of {path} must name {images:,} images, but names {len(files):,}; "
            "remove it, or name each image"
        )
    return tuple(str(file) for file in np.array(files, dtype=object)[rows])


def find_image(name: str, root: Path) -> Path | None:
    """Return the file of an image below a folder, or None.

    Names in the published package are paths on its authors' machine, so ever shorter suffixes of
    the name are tried: ``JPEGImages/antelope/antelope_10001.jpg``, then ``antelope/…``, and so on.
    """
    parts = [part for part in PureWindowsPath(name).parts if part not in ("/", "\\", "..", ".")]
    for start in range(len(parts)):
        path = root.joinpath(*parts[start:])
        if path.is_file():
            return path
    return None
