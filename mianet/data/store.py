"""Keeps a converted data set as Arrow files that every process maps without copying.

A source is converted once, into a folder per source under the cache folder::

    <cache>/store/<key>/current.json            which generation counts, its source and checksums
    <cache>/store/<key>/<generation>/search/    all that a search may see
    <cache>/store/<key>/<generation>/test/      the test parts

``current.json`` is replaced atomically as the last step, so a generation counts either whole or not
at all, and what a killed conversion leaves behind is swept by the next one. A store counts only for
the state of the source that it was made from, and a part only if its files have the checksums that
were written; otherwise the source is converted again. One process converts at a time.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import shutil
import sys
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout

from mianet.data.images import ImageSet, check_images
from mianet.data.sources import Source, absolute_path
from mianet.errors import InputError

CACHE_DIR_VARIABLE = "MIANET_CACHE_DIR"
FORMAT = 1
"""Raised whenever what is written changes, so that older stores are converted again."""
ALIGNMENT = 64
LOCK_TIMEOUT_S = 1800.0
RECORD = "current.json"
TEMPORARY_RECORD = f"{RECORD}.tmp"
MAX_RECORD_BYTES = 2**16
LOCK = "lock"

LAYOUT: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "search/images.arrow": {"features": "matrix", "label": "int64"},
        "search/classes.arrow": {"attributes": "matrix", "name": "string", "class_id": "int64"},
        "test/seen_images.arrow": {"features": "matrix", "label": "int64"},
        "test/unseen_images.arrow": {"features": "matrix", "label": "int64"},
        "test/classes.arrow": {"attributes": "matrix", "name": "string", "seen": "int8"},
    }
)
"""File → its columns and their types; "matrix" is a list of float32 of fixed size."""


@dataclass(frozen=True)
class Part:
    """The mapped files of one part of a data set.

    Attributes:
        digest: sha256 of the source, in hex.
        batches: File name without ending → its one record batch.
    """

    digest: str
    batches: Mapping[str, Any]

    def matrix(self, file: str, column: str) -> np.ndarray:
        """Return a column of equally long vectors as a read-only matrix over the mapped file."""
        vectors = self.batches[file].column(column)
        values: np.ndarray = vectors.flatten().to_numpy(zero_copy_only=True)
        return values.reshape(len(vectors), vectors.type.list_size)

    def vector(self, file: str, column: str) -> np.ndarray:
        """Return a column of numbers as a read-only vector over the mapped file."""
        values: np.ndarray = self.batches[file].column(column).to_numpy(zero_copy_only=True)
        return values

    def texts(self, file: str, column: str) -> tuple[str, ...]:
        """Return a column of texts."""
        return tuple(self.batches[file].column(column).to_pylist())


@dataclass(frozen=True)
class _Record:
    """The content of ``current.json``; ``files`` gives path → (bytes, CRC-32)."""

    format: int
    origin: str
    stamp: str
    digest: str
    generation: str
    files: Mapping[str, tuple[int, int]]


def cache_folder() -> Path:
    """Return MIANET_CACHE_DIR, else ``mianet`` in the user's cache folder (XDG), absolute.

    Raises:
        InputError: It cannot be a path, or the user has no home folder.
    """
    if own := os.environ.get(CACHE_DIR_VARIABLE):
        return absolute_path(own, CACHE_DIR_VARIABLE)
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():
        return shared / "mianet"
    return absolute_path("~/.cache/mianet", f"the cache folder without {CACHE_DIR_VARIABLE}")


def open_part(source: Source, part: str) -> Part:
    """Map one part of a data set, and convert the source first where that is needed.

    Args:
        source: The data set.
        part: "search" or "test"; no file of another part is opened unless a conversion is needed.

    Raises:
        InputError: The source is not what is published, or the store cannot be written.
    """
    home = cache_folder() / "store" / source.key
    opened = _open_current(home, source, part)
    if opened is not None:
        return opened
    try:
        with _locked(home, source):
            opened = _open_current(home, source, part)  # maybe another process was first
            if opened is None:
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
    if opened is None:
        raise InputError(
            f"the store of {source.name} must stay as it is written, but {source.origin} or {home} "
            "was changed meanwhile; try again when nothing writes there"
        )
    return opened


def _open_current(home: Path, source: Source, part: str) -> Part | None:
    """Return a part of the current generation, or None where it is damaged or out of date."""
    record = _read_record(home)
    if record is None or record.stamp != source.stamp():
        return None
    return _open_generation(home, record, part)


def _open_generation(home: Path, record: _Record, part: str) -> Part | None:
    batches = {}
    for file, columns in LAYOUT.items():
        if file.startswith(f"{part}/"):
            path = home / record.generation / file
            batch = _open_batch(path, record.files[file], columns)
            if batch is None:
                return None
            batches[path.stem] = batch
    return Part(record.digest, batches)


def _open_batch(path: Path, checksum: tuple[int, int], columns: Mapping[str, str]) -> Any:
    """Return the record batch of a file, or None where it is not the one that was written."""
    try:
        if not path.is_file() or path.stat().st_size != checksum[0]:
            return None
        content = _map(path)
        if zlib.crc32(content) != checksum[1]:
            return None
        file = pa.ipc.open_file(content)
        if file.num_record_batches != 1 or _types(file.schema) != columns:
            return None
        batch = file.get_batch(0)
        batch.validate(full=True)
    except (OSError, ValueError, pa.ArrowException):
        return None
    whole = batch.num_rows and not any(column.null_count for column in batch.columns)
    return batch if whole else None


def _types(schema: Any) -> dict[str, str]:
    """Return column → type, as LAYOUT has it."""

    def name(kind: Any) -> str:
        is_matrix = pa.types.is_fixed_size_list(kind) and kind.value_type == pa.float32()
        return "matrix" if is_matrix and kind.list_size else str(kind)

    return {field.name: name(field.type) for field in schema}


def _read_record(home: Path) -> _Record | None:
    """Return the record, or None where there is none or it is not of this version."""
    try:
        with (home / RECORD).open("rb") as file:
            values = json.loads(file.read(MAX_RECORD_BYTES))
        values["files"] = {file: (size, crc) for file, (size, crc) in values["files"].items()}
        record = _Record(**values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return record if record.format == FORMAT and _is_sound(record) else None


def _is_sound(record: _Record) -> bool:
    texts = (record.origin, record.stamp, record.digest, record.generation)
    return (
        all(isinstance(text, str) for text in texts)
        and re.fullmatch("[0-9a-f]{32}", record.generation) is not None
        and record.files.keys() == LAYOUT.keys()
        and all(isinstance(number, int) for entry in record.files.values() for number in entry)
    )


@contextlib.contextmanager
def _locked(home: Path, source: Source) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _say(f"waiting for another process that converts {source.name}")
        try:
            lock.acquire(timeout=LOCK_TIMEOUT_S)
        except Timeout as error:
            raise InputError(
                f"{source.name} must be converted within {LOCK_TIMEOUT_S:.0f} s, but another "
                f"process still holds {home / LOCK}; end it, and try again"
            ) from error
    try:
        yield
    finally:
        lock.release()


def _renew(home: Path, source: Source, part: str) -> None:
    """Make the store agree with the source, by a conversion only where its content is another."""
    stamp, digest = source.stamp(), source.digest()
    record = _read_record(home)
    if record and record.digest == digest and _open_generation(home, record, part):
        renewed = replace(record, origin=source.origin, stamp=stamp)
    else:
        _say(f"converting {source.name} ({source.origin}) for memory-mapping, once")
        renewed = _Record(FORMAT, source.origin, stamp, digest, uuid.uuid4().hex, {})
    counting = record.generation if record else None
    try:
        if renewed.generation != counting:
            renewed = replace(renewed, files=_convert(source, home / renewed.generation))
        if source.stamp() == stamp:
            _write_record(home, renewed)
            counting = renewed.generation
    finally:  # on a full disk above all, what does not count must not stay
        _sweep(home, counting)


def _convert(source: Source, folder: Path) -> Mapping[str, tuple[int, int]]:
    """Write all parts of a source; returns path → (bytes, CRC-32)."""
    images = source.read()
    check_images(images, source.spec, source.origin)
    files = {}
    for file, columns in _part_columns(images).items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        files[file] = _write_arrow(path, columns())
    for written in (*folder.iterdir(), folder, folder.parent):
        _flush(written)
    return files


def _part_columns(images: ImageSet) -> Mapping[str, Callable[[], Mapping[str, Any]]]:
    """Return what each file holds: path → a maker of column name → values, matrices first."""
    seen = np.unique(images.labels[images.trainval])
    names = np.array(images.class_names, dtype=object)
    all_classes = np.arange(len(names))

    def image_columns(rows: np.ndarray) -> dict[str, Any]:
        return {"features": images.features[rows], "label": images.labels[rows]}

    return {
        "search/images.arrow": lambda: {
            "features": images.features[images.trainval],
            "label": np.searchsorted(seen, images.labels[images.trainval]),
        },
        "search/classes.arrow": lambda: {
            "attributes": images.class_attributes[seen],
            "name": names[seen],
            "class_id": seen,
        },
        "test/seen_images.arrow": lambda: image_columns(images.test_seen),
        "test/unseen_images.arrow": lambda: image_columns(images.test_unseen),
        "test/classes.arrow": lambda: {
            "attributes": images.class_attributes,
            "name": names,
            "seen": np.isin(all_classes, seen).astype(np.int8),
        },
    }


def _write_arrow(path: Path, columns: Mapping[str, Any]) -> tuple[int, int]:
    """Write one uncompressed record batch; returns the file's size and CRC-32."""
    arrays = [_arrow_array(values) for values in columns.values()]
    fields = [
        pa.field(name, array.type, nullable=False)
        for name, array in zip(columns, arrays, strict=True)
    ]
    batch = pa.RecordBatch.from_arrays(arrays, schema=_aligned_schema(fields))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    _flush(path)
    content = _map(path)
    return content.size, zlib.crc32(content)


def _map(path: Path) -> Any:
    """Map a file read-only; by Python's own means, so that an audit hook sees what is opened."""
    with path.open("rb") as file:
        return pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _arrow_array(values: Any) -> Any:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _aligned_schema(fields: list[Any]) -> Any:
    """Return a schema whose padding puts the first column on a boundary of 64 bytes in the file.

    Arrow aligns a file's messages to 8 bytes only; the length of the schema's metadata decides the
    rest, and not the number of rows.
    """
    for padding in range(0, ALIGNMENT, 8):
        schema = pa.schema(fields, metadata={"padding": " " * padding})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(_one_row(schema))
        content = sink.getvalue()
        first = pa.ipc.open_file(content).get_batch(0).column(0).flatten().buffers()[1]
        if (first.address - content.address) % ALIGNMENT == 0:
            return schema
    raise AssertionError("eight paddings cover all offsets")


def _one_row(schema: Any) -> Any:
    def row(kind: Any) -> Any:
        if pa.types.is_fixed_size_list(kind):
            return [0.0] * kind.list_size
        return "" if pa.types.is_string(kind) else 0

    return pa.RecordBatch.from_arrays(
        [pa.array([row(field.type)], type=field.type) for field in schema], schema=schema
    )


def _write_record(home: Path, record: _Record) -> None:
    temporary = home / TEMPORARY_RECORD
    with temporary.open("w") as file:
        json.dump(vars(record), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(home / RECORD)
    _flush(home)


def _sweep(home: Path, counting: str | None) -> None:
    """Remove what does not count: other generations, and what ended conversions left.

    Mapped files live on unseen.
    """
    (home / TEMPORARY_RECORD).unlink(missing_ok=True)
    for child in home.iterdir():
        if child.is_dir() and child.name != counting:
            shutil.rmtree(child, ignore_errors=True)


def _flush(path: Path) -> None:
    """Bring a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
