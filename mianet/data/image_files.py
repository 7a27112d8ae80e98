"""The files that the test images were taken from, where ``res101.mat`` names them (figure 11)."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

import numpy as np

from mianet.data.datasets import find_dataset
from mianet.data.matfiles import read_texts
from mianet.data.sources import FEATURES_FILE, find_folder, read_splits
from mianet.errors import InputError

VARIABLE = "image_files"


def unseen_image_names(name: str, data_dir: Path | None = None) -> tuple[str, ...]:
    """Return what each unseen test image is called, in the order of ``TestParts``.

    A name is the path in ``image_files`` of ``res101.mat``. Where the file has none it is
    ``image 17``, the 1-based column of ``features``; where there is no file at all (``digits`` and
    synthetic data), the position among the unseen test images.

    Raises:
        InputError: The data set's files cannot be read, or name another number of images.
    """
    dataset = find_dataset(name)
    spec = dataset.spec
    if dataset.synthetic or spec.folder is None:
        return tuple(f"image {row + 1}" for row in range(spec.test_unseen_images))
    folder = find_folder(spec.title, spec.folder, data_dir)
    splits, _, _ = read_splits(folder, spec)
    rows = splits["test_unseen"]
    path = folder / FEATURES_FILE
    files = read_texts(path, VARIABLE)
    if files is None:
        return tuple(f"image {row + 1}" for row in rows)
    if len(files) != spec.images:
        raise InputError(
            f"{VARIABLE} of {path} must name {spec.images:,} images, but names {len(files):,}; "
            "use the published file"
        )
    return tuple(str(file) for file in np.array(files, dtype=object)[rows])


def find_image(name: str, root: Path) -> Path | None:
    """Return the file of an image below a folder, or None.

    The names of the published package are paths on its authors' machine, so ever shorter ends of
    the name are tried: ``JPEGImages/antelope/antelope_10001.jpg``, then ``antelope/…``, and so on.
    """
    parts = [part for part in PureWindowsPath(name).parts if part not in ("/", "\\", "..", ".")]
    for start in range(len(parts)):
        path = root.joinpath(*parts[start:])
        if path.is_file():
            return path
    return None
