"""Write predictions as CSV, Parquet or JSON lines."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from mianet.errors import InputError

SCHEMA = pa.schema(
    [("image", pa.int64()), ("rank", pa.int32()), ("class", pa.string()), ("score", pa.float32())]
)
"""One row for each image and rank: the image is its row in the input, from 0; ranks are from 1."""
FILES_SCHEMA = SCHEMA.set(0, pa.field("image", pa.string()))
"""The same where images are files: the image is its path."""

Write = Callable[[pa.RecordBatch], None]
Writer = Callable[[BinaryIO, pa.Schema], contextlib.AbstractContextManager[Write]]


@contextlib.contextmanager
def open_predictions(path: Path, schema: pa.Schema = SCHEMA) -> Iterator[Write]:
    """Yield a function that appends a batch to the file.

    The file is put in place when the block ends; if anything fails, an existing file is kept.

    Args:
        path: The file.
        schema: What its rows are: ``SCHEMA`` or ``FILES_SCHEMA``.

    Raises:
        InputError: The suffix is unknown, or the file cannot be written.
    """
    writer = _writer(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file, writer(file, schema) as write:
            yield write
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"predictions must be written, but {path} cannot be ({error.strerror or error})"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_suffix(path: Path) -> None:
    """Check the suffix before any work.

    Raises:
        InputError: It is unknown.
    """
    _writer(path)


@contextlib.contextmanager
def _csv(file: BinaryIO, schema: pa.Schema) -> Iterator[Write]:
    with pa.csv.CSVWriter(file, schema) as writer:
        yield writer.write_batch


@contextlib.contextmanager
def _parquet(file: BinaryIO, schema: pa.Schema) -> Iterator[Write]:
    with pq.ParquetWriter(file, schema) as writer:
        yield writer.write_batch


@contextlib.contextmanager
def _json_lines(file: BinaryIO, _: pa.Schema) -> Iterator[Write]:
    def write(batch: pa.RecordBatch) -> None:
        lines = (json.dumps(row, ensure_ascii=False) for row in batch.to_pylist())
        file.writelines(f"{line}\n".encode() for line in lines)

    yield write


def _writer(path: Path) -> Writer:
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise InputError(f"predictions must go to {', '.join(_WRITERS)}, but got {path}")
    return writer


_WRITERS: Mapping[str, Writer] = {".csv": _csv, ".parquet": _parquet, ".jsonl": _json_lines}
