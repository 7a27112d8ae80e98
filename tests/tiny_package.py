"""A tiny data set in the layout of the published files, to be spoilt in one way or another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from mianet.data.images import DatasetSpec

TINY = DatasetSpec(
    name="tiny",
    title="Tiny",
    folder="TINY",
    feature_dim=7,
    attribute_dim=5,
    seen_classes=4,
    unseen_classes=2,
    trainval_images=24,
    test_seen_images=8,
    test_unseen_images=10,
)


def tiny_variables() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the variables of res101.mat and att_splits.mat; seen classes are 1, 2, 4 and 5."""
    generator = np.random.default_rng(0)
    seen, unseen = [1, 2, 4, 5], [3, 6]
    labels = np.array([*np.resize(seen, 32), *np.resize(unseen, 10)])
    parts = np.split(np.arange(1, 43), [24, 32])
    order = generator.permutation(42)  # row order[k] holds what was row k
    shuffled = np.empty(42, dtype=np.int64)
    shuffled[order] = labels
    places = [order[part - 1] + 1 for part in parts]
    attributes = generator.random((5, 6))
    attributes /= np.linalg.norm(attributes, axis=0)
    names = np.empty((6, 1), dtype=object)
    names[:, 0] = ["ant", "bee", "cat", "dog", "eel", "fox"]
    images = {
        "features": generator.random((7, 42)),
        "labels": shuffled[:, None].astype(np.uint8),
    }
    splits = {
        "att": attributes,
        "original_att": attributes * 3,
        "allclasses_names": names,
        "trainval_loc": places[0][:, None].astype(np.uint16),
        "test_seen_loc": places[1][:, None].astype(np.uint16),
        "test_unseen_loc": places[2][:, None].astype(np.uint16),
    }
    return images, splits


def write_package(
    folder: Path, images: Mapping[str, Any], splits: Mapping[str, Any], writer: Any = None
) -> Path:
    """Write both files into a folder, by a writer such as savemat or save_hdf5."""
    folder.mkdir(parents=True, exist_ok=True)
    (writer or scipy.io.savemat)(folder / "res101.mat", dict(images))
    (writer or scipy.io.savemat)(folder / "att_splits.mat", dict(splits))
    return folder


def save_hdf5(path: Path, variables: Mapping[str, Any]) -> None:
    """Write as Matlab v7.3 does: transposed, text as numbers, cells as references to datasets."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            if value.dtype != object:
                file[name] = value.T
                continue
            references = np.empty(value.shape, dtype=h5py.ref_dtype)
            for place, text in np.ndenumerate(value):
                cell = f"#refs#/{name}{place[0]}"
                file[cell] = np.frombuffer(text.encode("utf-16-le"), "<u2")[:, None]
                file[cell].attrs["MATLAB_class"] = np.bytes_("char")
                references[place] = file[cell].ref
            file.create_dataset(name, data=references.T, dtype=h5py.ref_dtype)
            file[name].attrs["MATLAB_class"] = np.bytes_("cell")
    with path.open("r+b") as raw:  # the user block says what the file is
        raw.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM")
