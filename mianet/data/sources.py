"""Where a data set comes from: a folder of two files, an installed package, or a generator."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mianet.data.datasets import RECORDED_DIGITS, find_dataset, is_known
from mianet.data.files import file_digest
from mianet.data.folders import FEATURES_FILE, SPLITS_FILE, read_folder
from mianet.data.images import DatasetSpec, ImageSet
from mianet.data.numbers import numbers_stamp, read_numbers
from mianet.data.synthetic import synthetic_images, synthetic_stamp
from mianet.errors import InputError

DATA_DIR_VARIABLE = "MIANET_DATA_DIR"
PACKAGE_PATH = Path("xlsa17", "data")
PACKAGE_FOLDERS = ("SUN", "CUB", "AWA1", "AWA2", "APY")
"""The folders of the published package, below PACKAGE_PATH."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set that can be read and checked for changes."""

    name: str  # canonical; for your own folder, its name in lower case
    key: str  # file name for derived data, different for each folder
    spec: DatasetSpec | None
    origin: str
    stamp: Callable[[], str]  # changes whenever the source may have changed; quick
    digest: Callable[[], str]  # sha256 of the content, hex
    read: Callable[[], ImageSet]  # unchecked, except where a check can save reading
    folder: Path | None = None

    @property
    def title(self) -> str:
        return self.spec.title if self.spec else self.name

    @property
    def address(self) -> str:
        """The name that opens this source from anywhere."""
        return str(self.folder) if self.folder and not self.spec else self.name

    def recorded_name(self, digest: str) -> str:
        """Return the name that runs are recorded under; different folders never share one."""
        return self.name if self.spec else f"{self.name}-{digest[:RECORDED_DIGITS]}"


def open_source(name: str, data_dir: Path | None = None) -> Source:
    """Find a data set by its name.

    Args:
        name: A name in DATASETS, or "synthetic:" and one of them, in any case; or a folder with
            the two files, by its path or its name in the data folder.
        data_dir: Folder with the data sets' folders; None means MIANET_DATA_DIR, else ./data.
    """
    if folder := find_own_folder(name, data_dir):
        return _mat_source(None, folder)
    dataset = find_dataset(name)
    if dataset.spec is None:
        raise InputError(
            f"the data of {name} must be available, but this recorded name does not say where it "
            f"is; give the folder, or its name in the data folder {data_root(data_dir)}"
        )
    spec = dataset.spec
    if spec.folder and not dataset.synthetic:
        return _mat_source(spec, find_folder(spec, data_dir))
    source = partial(Source, name=dataset.name, key=dataset.name.replace(":", "-"), spec=spec)
    if dataset.synthetic:
        stamp = partial(synthetic_stamp, spec)
        return source(
            origin=dataset.name,
            stamp=stamp,
            digest=lambda: hashlib.sha256(stamp().encode()).hexdigest(),
            read=partial(synthetic_images, spec),
        )
    return source(
        origin="the installed packages",
        stamp=numbers_stamp,
        digest=lambda: _content_digest(read_numbers()),
        read=read_numbers,
    )


def find_own_folder(name: str, data_dir: Path | None = None) -> Path | None:
    """Return the user's own folder that a data set's name refers to; None for a known name."""
    if is_known(name):
        return None
    if not is_path(name):
        root = data_root(data_dir)
        folders = _folders_named(name, root, root / PACKAGE_PATH, Path())
        return next((folder for folder in folders if not _missing_files(folder)), None)
    folder = absolute_path(name, "a data set")
    if missing := _missing_files(folder):
        raise InputError(
            f"a data set's folder must have {FEATURES_FILE} and {SPLITS_FILE}, but {folder} has "
            f"no {' and no '.join(missing)}; create them with `python -m mianet.package build`"
        )
    return folder


def is_path(name: str) -> bool:
    """Tell whether a data set's name is the path of a folder."""
    return os.sep in name or name.strip(".") == "" != name


def data_root(data_dir: Path | None = None) -> Path:
    """Return the absolute data folder: the argument, else MIANET_DATA_DIR, else ./data."""
    given = data_dir or os.environ.get(DATA_DIR_VARIABLE) or "data"
    return absolute_path(given, f"the data folder (--data-dir or {DATA_DIR_VARIABLE})")


def absolute_path(given: str | Path, what: str) -> Path:
    """Return an absolute path, with ``~`` expanded."""
    if not str(given) or "\0" in str(given):
        raise InputError(f"{what} must be a path without NUL, but got {str(given)!r}; give another")
    try:
        return Path(given).expanduser().absolute()
    except (RuntimeError, OSError) as error:  # no such user, no current folder
        raise InputError(
            f"{what} must be a path, but got {str(given)!r} ({error}); give an absolute one"
        ) from error


def find_folder(spec: DatasetSpec, data_dir: Path | None = None) -> Path:
    """Return a published data set's folder, in the data folder or in its ``xlsa17/data``."""
    root, name = data_root(data_dir), spec.folder or spec.title
    homes = (root, root / PACKAGE_PATH)
    folders = _folders_named(name, *homes)
    if whole := [folder for folder in folders if not _missing_files(folder)]:
        return whole[0]
    download = f"run `python -m mianet.download --data-dir {root}`, or "
    if name not in PACKAGE_FOLDERS:
        download = ""
    if folders:
        raise InputError(
            f"{spec.title} must have {FEATURES_FILE} and {SPLITS_FILE}, but {folders[0]} has no "
            f"{' and no '.join(_missing_files(folders[0]))}; {download}add what is missing"
        )
    raise InputError(
        f"{spec.title} must be a folder with {FEATURES_FILE} and {SPLITS_FILE}, but there is "
        f"neither {homes[0] / name} nor {homes[1] / name}; {download}put the two files in "
        f"{homes[0] / name}, or choose another data folder with --data-dir or {DATA_DIR_VARIABLE}"
    )


def _mat_source(spec: DatasetSpec | None, folder: Path) -> Source:
    folder = folder.resolve()
    # Only what is valid in file names everywhere, and in MLflow.
    own = re.sub(r"[^\w.]+", "-", folder.name.lower()).strip("-._")[:64] or "folder"
    name = spec.name if spec else own
    return Source(
        name=name,
        key=f"{name}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}",
        spec=spec,
        origin=str(folder),
        stamp=partial(_files_stamp, folder),
        digest=partial(_files_digest, folder),
        read=partial(read_folder, folder, spec),
        folder=folder,
    )


def _files_stamp(folder: Path) -> str:
    try:
        states = {name: (folder / name).stat() for name in (FEATURES_FILE, SPLITS_FILE)}
    except OSError as error:
        raise InputError(
            f"{folder} must have {FEATURES_FILE} and {SPLITS_FILE}, but one cannot be read "
            f"({error.strerror}); restore it"
        ) from error
    return json.dumps({name: [s.st_size, s.st_mtime_ns] for name, s in states.items()})


def _files_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (FEATURES_FILE, SPLITS_FILE):
        digest.update(bytes.fromhex(file_digest(folder / name)))
    return digest.hexdigest()


def _content_digest(images: ImageSet) -> str:
    digest = hashlib.sha256(json.dumps(images.class_names).encode())
    for name, array in vars(images).items():
        if isinstance(array, np.ndarray):
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _folders_named(name: str, *homes: Path) -> list[Path]:
    """Return the folders of that name in any case, the exact match in each home first."""
    found = []
    for home in homes:
        with contextlib.suppress(OSError):  # no such folder, or it cannot be listed
            found += sorted(
                (child for child in home.iterdir() if child.name.lower() == name.lower()),
                key=lambda child: (child.name != name, child.name),
            )
    return [child for child in found if child.is_dir()]


def _missing_files(folder: Path) -> list[str]:
    return [name for name in (FEATURES_FILE, SPLITS_FILE) if not (folder / name).is_file()]
