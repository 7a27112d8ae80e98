"""The test images and the unseen classes; the only module that opens the store's test parts.

Only the final evaluation imports this module, never anything that a search runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Int64

from mianet.data.class_vectors import open_embedding
from mianet.data.sources import open_source
from mianet.data.store import open_part


@dataclass(frozen=True)
class TestParts:
    """The test images and all classes; labels and class lists are 0-based ids of all classes.

    Attributes:
        class_attributes: Attribute vectors of all classes, of length 1; the row is the id.
        class_names: Names of all classes.
        seen_classes: Ids of the classes of trainval and of the seen test images, ascending.
        unseen_classes: Ids of the other classes, ascending.
        test_seen_features: Test images of the seen classes, read-only and mapped.
        test_seen_labels: Their classes.
        test_unseen_features: Test images of the unseen classes, read-only and mapped.
        test_unseen_labels: Their classes.
    """

    __test__: ClassVar[bool] = False  # pytest collects classes by their name

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
        data_dir: Folder with the data sets' folders; None looks at MIANET_DATA_DIR, then ./data.
        embedding: Files with vectors of all classes, instead of the data set's attributes.

    Raises:
        InputError: As load_search_data of mianet.data.search_data.
    """
    part = open_part(open_source(name, data_dir), "test")
    arrays = dict(part.arrays)
    is_seen = arrays.pop("is_seen")
    names = tuple(arrays.pop("class_names").tolist())
    if other := open_embedding(embedding):
        arrays["class_attributes"] = other.of(names, range(len(names)), len(names))
    return TestParts(
        class_names=names,
        seen_classes=np.flatnonzero(is_seen),
        unseen_classes=np.flatnonzero(~is_seen),
        **arrays,
    )
