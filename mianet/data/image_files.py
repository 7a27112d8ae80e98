"""The files that the test images were taken from, where ``res101.mat`` names them (figure 11)."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

import numpy as np

from mianet.data.folders import FEATURES_FILE, read_splits
from mianet.data.matfiles import read_mat
from mianet.data.sources import open_source
from mianet.errors import InputError

VARIABLE = "image_files"


def unseen_image_names(name: str, data_dir: Path | None = None) -> tuple[str, ...]:
    """Return what each unseen test image is called, in the order of ``TestParts``.

    A name is the path in ``image_files`` of ``res101.mat``. Where the file has none it is
    ``image 17``, the 1-based column of ``features``; where there is no file at all (``numbers`` and
    synthetic data), the position among the unseen test images.
    """
    source = open_source(name, data_dir)
    if source.folder is None:
        count = source.spec.test_unseen_images if source.spec else 0
        return tuple(f"image {row + 1}" for row in range(count))
    splits, _, _ = read_splits(source.folder, source.spec)
    rows = splits["test_unseen"]
    path = source.folder / FEATURES_FILE
    files = read_mat(path, texts=(VARIABLE,), optional=(VARIABLE,))[1].get(VARIABLE)
    if files is None:
        return tuple(f"image {row + 1}" for row in rows)
    images = source.spec.images if source.spec else max(len(files), int(rows.max()) + 1)
    if len(files) != images:
        raise InputError(
            f"{VARIABLE} of {path} must name {images:,} images, but names {len(files):,}; leave it "
            "out, or name each image"
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
