"""Stores a converted data set as NumPy files that every process maps without copying.

Its folders are shown in docs/data.md. One process converts at a time, into a new generation that
becomes valid once the record names it: whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from mianet.data.images import Checks, ImageSet
from mianet.data.sources import Source, absolute_path
from mianet.errors import InputError

CACHE_DIR_VARIABLE = "MIANET_CACHE_DIR"
FORMAT = 3  # raised whenever what is written changes, so that older stores are converted again
LOCK_TIMEOUT_S = 1800.0
RECORD, TEMPORARY_RECORD = "current.json", "current.json.tmp"
MAX_RECORD_BYTES = 2**16
LOCK = "lock"

MATRIX, VECTOR, TEXTS, FLAGS = ("f", 2), ("i", 1), ("U", 1), ("b", 1)
LAYOUT: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "search": {
        "features": MATRIX,
        "labels": VECTOR,
        "class_attributes": MATRIX,
        "class_names": TEXTS,
        "class_ids": VECTOR,
        "all_classes": VECTOR,
    },
    "test": {
        "test_seen_features": MATRIX,
        "test_seen_labels": VECTOR,
        "test_unseen_features": MATRIX,
        "test_unseen_labels": VECTOR,
        "class_attributes": MATRIX,
        "class_names": TEXTS,
        "is_seen": FLAGS,
    },
}
"""Part → array → dtype kind and number of dimensions."""
FILES = frozenset(f"{part}/{name}.npy" for part, names in LAYOUT.items() for name in names)


StoredPart = tuple[str, Mapping[str, np.ndarray]]
"""The sha256 of a source, in hex, and the arrays of one of its parts, read-only and mapped."""


@dataclass(frozen=True)
class _Record:
    """The content of ``current.json``; ``files`` gives path → [bytes, CRC-32]."""

    format: int
    origin: str
    stamp: str
    digest: str
    generation: str
    files: Mapping[str, list[int]]


def cache_folder() -> Path:
    """Return MIANET_CACHE_DIR, else ``mianet`` in the user's cache folder (XDG), absolute."""
    if own := os.environ.get(CACHE_DIR_VARIABLE):
        return absolute_path(own, CACHE_DIR_VARIABLE)
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():
        return shared / "mianet"
    return absolute_path("~/.cache/mianet", f"the cache folder without {CACHE_DIR_VARIABLE}")


def open_part(source: Source, part: str) -> StoredPart:
    """Map one part of a data set, "search" or "test"; convert the source first where needed.

    No file of another part is opened unless a conversion is needed.
    """
    home = cache_folder() / "store" / source.key
    if opened := _open_current(home, source, part):
        return opened
    try:
        with _locked(home, source):
            opened = _open_current(home, source, part)  # another process may have been first
            if not opened:
                _renew(home, source, part)
                opened = _open_current(home, source, part)
    except OSError as error:
        raise InputError(
            f"the store of {source.name} must be writable, but {home} is not ({error}); set "
            f"{CACHE_DIR_VARIABLE} to a folder with enough space"
        ) from error
    except MemoryError as error:
        raise InputError(
            f"{source.name} must fit into memory while it is converted, but does not; free some or "
            "convert it on a larger machine"
        ) from error
    if not opened:
        raise InputError(
            f"the store of {source.name} must not change while it is opened, but {source.origin} "
            f"or {home} did; try again when nothing else writes there"
        )
    return opened


def _open_current(home: Path, source: Source, part: str) -> StoredPart | None:
    """Return a part of the current generation, or None if it is damaged or out of date."""
    record = _read_record(home)
    if record and record.stamp == source.stamp():
        return _open_generation(home, record, part)
    return None


def _open_generation(home: Path, record: _Record, part: str) -> StoredPart | None:
    """Map the arrays of a part, or return None if a file has changed since it was written."""
    arrays = {}
    for name, kind in LAYOUT[part].items():
        file = f"{part}/{name}.npy"
        path = home / record.generation / file
        try:
            if not path.is_file() or _checksum(path) != record.files.get(file):
                return None
            array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except Exception:  # a forged header can raise almost anything
            return None
        if (array.dtype.kind, array.ndim) != kind or not array.size:
            return None
        arrays[name] = array
    return record.digest, arrays


def _checksum(path: Path) -> list[int]:
    content = np.memmap(path, np.uint8, "r")
    return [content.size, zlib.crc32(content.data)]


def _read_record(home: Path) -> _Record | None:
    """Return the record, or None if there is none or it is of another version."""
    try:
        with (home / RECORD).open("rb") as file:
            record = _Record(**json.loads(file.read(MAX_RECORD_BYTES)))
        is_sound = (
            record.format == FORMAT
            and re.fullmatch("[0-9a-f]{32}", record.generation) is not None
            and re.fullmatch("[0-9a-f]{64}", record.digest) is not None
            and record.files.keys() == FILES
        )
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return record if is_sound else None


@contextlib.contextmanager
def _locked(home: Path, source: Source) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _print(f"waiting for another process to convert {source.name}")
        try:
            lock.acquire(timeout=LOCK_TIMEOUT_S)
        except Timeout as error:
            raise InputError(
                f"{source.name} must be converted within {LOCK_TIMEOUT_S:.0f} s, but another "
                f"process still holds {home / LOCK}; stop it, and try again"
            ) from error
    try:
        yield
    finally:
        lock.release()


def _renew(home: Path, source: Source, part: str) -> None:
    """Bring the store up to date with the source; convert only if the content differs."""
    stamp, digest = source.stamp(), source.digest()
    record = _read_record(home)
    if record and record.digest == digest and _open_generation(home, record, part):
        renewed = replace(record, origin=source.origin, stamp=stamp)
    else:
        _print(f"converting {source.name} ({source.origin}) for memory-mapping; this happens once")
        renewed = _Record(FORMAT, source.origin, stamp, digest, uuid.uuid4().hex, {})
    current = record.generation if record else None
    try:
        if renewed.generation != current:
            renewed = replace(renewed, files=_convert(source, home / renewed.generation))
        if source.stamp() == stamp:
            _write_record(home, renewed)
            current = renewed.generation
    finally:  # remove what is not valid, above all on a full disk
        _sweep(home, current)


def _convert(source: Source, folder: Path) -> Mapping[str, list[int]]:
    """Write all parts of a source; return path → [bytes, CRC-32]."""
    images = source.read()
    Checks(source.spec, source.origin).images(images)
    files = {}
    for part, arrays in (("search", _search_arrays), ("test", _test_arrays)):
        (folder / part).mkdir(parents=True)
        for name, array in arrays(images):
            path = folder / part / f"{name}.npy"
            files[f"{part}/{name}.npy"] = _write_array(path, array)
    for written in (*folder.iterdir(), folder, folder.parent):
        _flush(written)
    return files


def _search_arrays(images: ImageSet) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what a search may see: one array at a time, since features can be large."""
    seen, labels = np.unique(images.labels[images.trainval], return_inverse=True)
    yield "features", images.features[images.trainval]
    yield "labels", labels
    yield "class_attributes", images.class_attributes[seen]
    yield "class_names", np.array(images.class_names)[seen]
    yield "class_ids", seen
    yield "all_classes", np.array([len(images.class_names)])


def _test_arrays(images: ImageSet) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the test images and all classes."""
    for part, rows in (("test_seen", images.test_seen), ("test_unseen", images.test_unseen)):
        yield f"{part}_features", images.features[rows]
        yield f"{part}_labels", images.labels[rows]
    yield "class_attributes", images.class_attributes
    yield "class_names", np.array(images.class_names)
    seen = np.unique(images.labels[images.trainval])
    yield "is_seen", np.isin(np.arange(len(images.class_names)), seen)


def _write_array(path: Path, array: np.ndarray) -> list[int]:
    """Write an array to disk; return the file's size and CRC-32.

    A plain ``.npy`` file aligns the numbers to 64 bytes, and can be mapped as an array directly.
    """
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:  # by hand, since np.save does not say why a write fails
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)
    _flush(path)
    return _checksum(path)


def _write_record(home: Path, record: _Record) -> None:
    temporary = home / TEMPORARY_RECORD
    temporary.write_text(json.dumps(vars(record), indent=1))
    _flush(temporary)
    temporary.replace(home / RECORD)
    _flush(home)


def _sweep(home: Path, current: str | None) -> None:
    """Remove other generations and leftovers of conversions; files still mapped stay readable."""
    (home / TEMPORARY_RECORD).unlink(missing_ok=True)
    for child in home.iterdir():
        if child.is_dir() and child.name != current:
            shutil.rmtree(child, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
