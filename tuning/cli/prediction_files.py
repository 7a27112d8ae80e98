"""Write predictions as CSV, Parquet or JSON lines."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
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


class _JSONLinesWriter(contextlib.nullcontext):  # type: ignore[type-arg]
    """Writes as pyarrow's writers of the other kinds do."""

    def __init__(self, file: BinaryIO, _: pa.Schema) -> None:
        super().__init__(self)
        self._file = file

    def write_batch(self, batch: pa.RecordBatch) -> None:
        for row in batch.to_pylist():
            self._file.write(f"{json.dumps(row, ensure_ascii=False)}\n".encode())


_WRITERS = {".csv": pa.csv.CSVWriter, ".parquet": pq.ParquetWriter, ".jsonl": _JSONLinesWriter}


@contextlib.contextmanager
def open_predictions(
    path: Path, schema: pa.Schema = SCHEMA
) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Yield a function that appends a batch to the file.

    The file is put in place when the block ends; if anything fails, an existing file is kept.

    Raises:
        InputError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    writer = _WRITERS[path.suffix.lower()]
    try:
        with temporary.open("wb") as file, writer(file, schema) as writing:
            yield writing.write_batch
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
    if path.suffix.lower() not in _WRITERS:
        raise InputError(f"predictions must go to {', '.join(_WRITERS)}, but got {path}")
