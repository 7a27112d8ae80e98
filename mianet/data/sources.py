"""Where a data set comes from: the field's files, an installed package, or a generator."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from mianet.data.datasets import find_dataset
from mianet.data.images import DatasetSpec, ImageSet, check_attributes, check_splits
from mianet.data.matfiles import read_mat
from mianet.data.synthetic import synthetic_images, synthetic_stamp
from mianet.errors import InputError

DATA_DIR_VARIABLE = "MIANET_DATA_DIR"
FEATURES_FILE = "res101.mat"
SPLITS_FILE = "att_splits.mat"
PACKAGE_PATH = Path("xlsa17", "data")
"""Where the published package has its folders."""
MAX_SPLITS_BYTES = 16 * 2**20
"""What is read of SPLITS_FILE, unpacked; the largest published one, CUB's, has 0.7 MB."""
WIDEST = 4
"""How many times wider than published the features may be; no file makes a process read more."""
LARGEST_NUMBER = 2**31
"""Whole numbers of a file are below it; a larger one has no place in an array."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set that can be read, and whether it has changed.

    Attributes:
        name: Canonical name, such as "awa1" or "synthetic:apy".
        key: File name for what is derived from it, other for each folder it was found in.
        spec: What is published about it.
        origin: Where it is, for messages.
        stamp: Returns a text that changes whenever the source may have changed; quick.
        digest: Returns the sha256 of the source, in hex.
        read: Returns the images, unchecked unless a check can spare reading.
    """

    name: str
    key: str
    spec: DatasetSpec
    origin: str
    stamp: Callable[[], str]
    digest: Callable[[], str]
    read: Callable[[], ImageSet]


def open_source(name: str, data_dir: Path | None = None) -> Source:
    """Find a data set by its name.

    Args:
        name: A name of DATASETS, or "synthetic:" and one of them; in upper or lower case.
        data_dir: Folder with the data sets' folders; None looks at MIANET_DATA_DIR, then ./data.

    Raises:
        InputError: The name is unknown, or the folder or a file is not there.
    """
    dataset = find_dataset(name)
    if dataset.synthetic:
        return _synthetic_source(dataset.name, dataset.spec)
    if dataset.spec.folder is None:
        return _embedded_source(dataset.spec)
    return _mat_source(dataset.spec, find_folder(dataset.spec.title, dataset.spec.folder, data_dir))


def data_root(data_dir: Path | None = None) -> Path:
    """Return the absolute data folder: the argument, else MIANET_DATA_DIR, else ./data."""
    given = data_dir or os.environ.get(DATA_DIR_VARIABLE) or "data"
    return absolute_path(given, f"the data folder (--data-dir or {DATA_DIR_VARIABLE})")


def absolute_path(given: str | Path, what: str) -> Path:
    """Return a path that no longer depends on the current folder, with ``~`` resolved.

    Raises:
        InputError: It cannot be a path.
    """
    if not str(given) or "\0" in str(given):
        raise InputError(f"{what} must be a path without NUL, but got {str(given)!r}; give another")
    try:
        return Path(given).expanduser().absolute()
    except (RuntimeError, OSError) as error:  # no such user, no current folder
        raise InputError(
            f"{what} must be a path, but got {str(given)!r} ({error}); give an absolute one"
        ) from error


def find_folder(title: str, name: str, data_dir: Path | None = None) -> Path:
    """Return the folder of a data set, ``<dir>/<name>`` or ``<dir>/xlsa17/data/<name>``.

    The folder's name may be in upper or lower case.

    Raises:
        InputError: There is none with both files.
    """
    root = data_root(data_dir)
    homes = (root, root / PACKAGE_PATH)
    folders = [folder for home in homes for folder in _folders_named(name, home)]
    missing = [_missing_files(folder) for folder in folders]
    for folder, files in zip(folders, missing, strict=True):
        if not files:
            return folder
    download = f"run `python -m mianet.download --data-dir {root}`"
    if folders:
        raise InputError(
            f"{title} must have {FEATURES_FILE} and {SPLITS_FILE}, but {folders[0]} has no "
            f"{' and no '.join(missing[0])}; {download}, or put what is missing there"
        )
    raise InputError(
        f"{title} must be a folder with {FEATURES_FILE} and {SPLITS_FILE}, but there is neither "
        f"{homes[0] / name} nor {homes[1] / name}; {download}, or put the two files in "
        f"{homes[0] / name}, or name another data folder by --data-dir or {DATA_DIR_VARIABLE}"
    )


def read_splits(
    folder: Path, spec: DatasetSpec
) -> tuple[
    dict[str, Int64[np.ndarray, " _"]], Float32[np.ndarray, "classes attributes"], tuple[str, ...]
]:
    """Read and check ``att_splits.mat``.

    Returns:
        The 0-based rows of each part of the split, the class attributes and the class names.

    Raises:
        InputError: The file cannot be read or is not the published one.
    """
    path = folder / SPLITS_FILE
    locations = {name: f"{name}_loc" for name in spec.split_sizes}
    numbers, texts = read_mat(
        path, ("att", *locations.values()), ("allclasses_names",), max_bytes=MAX_SPLITS_BYTES
    )
    splits = {name: _zero_based(numbers[key], key, path) for name, key in locations.items()}
    attributes = numbers["att"]
    if attributes.shape == (spec.attribute_dim, spec.classes):  # as published
        attributes = attributes.T
    attributes = _float32(attributes)
    names = texts["allclasses_names"]
    check_splits(splits, spec, str(path))
    check_attributes(attributes, names, spec, str(path))
    return splits, attributes, names


def read_folder(folder: Path, spec: DatasetSpec) -> ImageSet:
    """Read a folder of the published package; ``train_loc`` and ``val_loc`` are left unread.

    Raises:
        InputError: A file cannot be read, or ``att_splits.mat`` is not the published one.
    """
    splits, attributes, names = read_splits(folder, spec)
    path = folder / FEATURES_FILE
    max_bytes = WIDEST * 8 * spec.images * (spec.feature_dim + 1)  # numbers of 8 bytes
    numbers, _ = read_mat(path, ("features", "labels"), max_bytes=max(max_bytes, 2**16))
    labels = _zero_based(numbers["labels"], "labels", path)
    features = numbers["features"]
    if features.shape[1] == len(labels):  # dimensions × images, as published
        features = features.T
    elif features.shape[0] != len(labels):
        raise InputError(
            f"features of {path} must be dimensions × {len(labels):,} images, as labels has, but "
            f"is {features.shape[0]:,} × {features.shape[1]:,}; use the published file"
        )
    return ImageSet(_float32(features), labels, attributes, names, **splits)


def _synthetic_source(name: str, spec: DatasetSpec) -> Source:
    stamp = partial(synthetic_stamp, spec)
    return Source(
        name=name,
        key=name.replace(":", "-"),
        spec=spec,
        origin=name,
        stamp=stamp,
        digest=lambda: hashlib.sha256(stamp().encode()).hexdigest(),
        read=partial(synthetic_images, spec),
    )


def _embedded_source(spec: DatasetSpec) -> Source:
    if spec.embedded is None:
        raise ValueError(f"the entry {spec.name!r} of DATASETS needs a folder or a reader")
    read = spec.embedded.read
    return Source(
        name=spec.name,
        key=spec.name,
        spec=spec,
        origin="the installed packages",
        stamp=spec.embedded.stamp,
        digest=lambda: _content_digest(read()),
        read=read,
    )


def _mat_source(spec: DatasetSpec, folder: Path) -> Source:
    folder = folder.resolve()
    return Source(
        name=spec.name,
        key=f"{spec.name}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}",
        spec=spec,
        origin=str(folder),
        stamp=partial(_files_stamp, folder),
        digest=partial(_files_digest, folder),
        read=partial(read_folder, folder, spec),
    )


def _files_stamp(folder: Path) -> str:
    try:
        states = {name: (folder / name).stat() for name in (FEATURES_FILE, SPLITS_FILE)}
    except OSError as error:
        raise InputError(
            f"{folder} must have {FEATURES_FILE} and {SPLITS_FILE}, but {error.strerror}; put them "
            "back"
        ) from error
    return json.dumps({name: [s.st_size, s.st_mtime_ns] for name, s in states.items()})


def _files_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (FEATURES_FILE, SPLITS_FILE):
        try:
            with (folder / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise InputError(
                f"{folder / name} must be a readable file, but {error.strerror}; check its owner "
                "and its disk"
            ) from error
    return digest.hexdigest()


def _content_digest(images: ImageSet) -> str:
    digest = hashlib.sha256(json.dumps(images.class_names).encode())
    arrays: Mapping[str, np.ndarray] = {
        name: value for name, value in vars(images).items() if isinstance(value, np.ndarray)
    }
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _folders_named(name: str, home: Path) -> list[Path]:
    """Return the folders of that name in any case, the exact one first."""
    try:
        children = [child for child in home.iterdir() if child.name.lower() == name.lower()]
    except OSError:  # no such folder, or none that can be listed
        return []
    return sorted(filter(Path.is_dir, children), key=lambda child: (child.name != name, child.name))


def _missing_files(folder: Path) -> list[str]:
    return [name for name in (FEATURES_FILE, SPLITS_FILE) if not (folder / name).is_file()]


def _zero_based(matrix: np.ndarray, name: str, path: Path) -> Int64[np.ndarray, " _"]:
    """Return a published 1-based vector of whole numbers as a 0-based one."""
    if min(matrix.shape) != 1:
        raise InputError(
            f"{name} of {path} must be a vector, but its shape is {matrix.shape}; use the "
            "published file"
        )
    vector = matrix.ravel()
    with np.errstate(invalid="ignore"):
        whole = (vector == np.floor(vector)) & (vector < LARGEST_NUMBER)
        odd = np.flatnonzero(~(whole & (vector > -LARGEST_NUMBER)))
    if len(odd):
        raise InputError(
            f"{name} of {path} must be whole numbers, but entry {odd[0] + 1:,} is "
            f"{vector[odd[0]]}; they count from 1, as published"
        )
    return vector.astype(np.int64) - 1


def _float32(matrix: np.ndarray) -> Float32[np.ndarray, "_ _"]:
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, which is checked
        return np.ascontiguousarray(matrix, dtype=np.float32)
