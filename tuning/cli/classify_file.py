"""Classify a file of features or a folder of images; write a file of class names."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from jaxtyping import Float32

from mianet.data.class_vectors import read_classes
from mianet.data.files import replacing
from mianet.errors import InputError, one_line
from mianet.inference.feature_files import read_features
from mianet.inference.prediction import Classifier
from tuning.cli.options import tracking_uri
from tuning.tracking.model_registry import load_classifier

Chunk = tuple[Float32[np.ndarray, "images features"], Sequence[int] | Sequence[str]]
"""Features, and the name or row of each image in the predictions."""

SCHEMA = pa.schema(
    [("image", pa.int64()), ("rank", pa.int32()), ("class", pa.string()), ("score", pa.float32())]
)
"""One row for each image and rank: the image is its row in the input, from 0; ranks are from 1."""
FILES_SCHEMA = SCHEMA.set(0, pa.field("image", pa.string()))
"""The same if images are files: the image is its path."""


class _JSONLinesWriter(contextlib.nullcontext):  # type: ignore[type-arg]
    """Writes JSON lines, with the interface of pyarrow's writers."""

    def __init__(self, file: BinaryIO, _: pa.Schema) -> None:
        super().__init__(self)
        self._file = file

    def write_batch(self, batch: pa.RecordBatch) -> None:
        for row in batch.to_pylist():
            self._file.write(f"{json.dumps(row, ensure_ascii=False)}\n".encode())


_WRITERS = {".csv": pa.csv.CSVWriter, ".parquet": pq.ParquetWriter, ".jsonl": _JSONLinesWriter}


def classify_file(options: argparse.Namespace) -> int:
    """Classify images chunk by chunk; return the exit code."""
    if options.output.suffix.lower() not in _WRITERS:
        raise InputError(f"the output must end in {', '.join(_WRITERS)}, but got {options.output}")
    if options.features and options.output.resolve() == options.features.resolve():
        raise InputError(f"the output must differ from the input, but both are {options.output}")
    added = read_classes(options.add_classes) if options.add_classes else None
    classifier = load_classifier(options.model, tracking_uri(options))
    if added:
        classifier = classifier.add_classes(added.names, added.attributes)
    candidates = classifier.candidates(options.mode, options.top_k)
    names, top, images = np.asarray(classifier.class_names), options.top_k, 0
    chunks_of = _extract_chunks if options.images else _read_chunks
    schema = FILES_SCHEMA if options.images else SCHEMA
    with _open_predictions(options.output, schema) as write:
        for features, image_ids in chunks_of(classifier, options):
            predictions = classifier.classify(
                features, mode=options.mode, top_k=top, calibration=options.calibration
            )
            columns = (
                [one for one in image_ids for _ in range(top)],
                np.tile(np.arange(1, top + 1), len(features)),
                names[predictions.classes.ravel()],
                predictions.scores.ravel(),
            )
            arrays = map(pa.array, columns, schema.types)
            write(pa.record_batch(list(arrays), schema=schema))
            images += len(features)
    print(f"{images:,} images classified among {len(candidates)} classes: {options.output}")
    return 0


def _read_chunks(classifier: Classifier, options: argparse.Namespace) -> Iterator[Chunk]:
    first = 0
    for chunk in read_features(options.features, classifier.feature_dim, key=options.key):
        yield chunk, range(first, first + len(chunk))
        first += len(chunk)


def _extract_chunks(classifier: Classifier, options: argparse.Namespace) -> Iterator[Chunk]:
    """Extract features from images the way those of the model's data set were made."""
    if classifier.backbone is None:
        raise InputError(
            "--images needs a model that records how its features were extracted, but this one "
            "does not: its data set was not made by `python -m mianet.extract`; give features "
            "instead"
        )
    # Loads the networks' libraries, which files of features do not need.
    from mianet.extraction.features import describe_broken, whole_batches
    from mianet.extraction.photos import find_photos
    from mianet.extraction.towers import open_recorded_tower

    photos = find_photos(options.images)
    tower = open_recorded_tower(classifier.backbone, options.weights, options.device)
    broken: dict[str, str] = {}
    yield from whole_batches(photos, tower, options.batch, broken, skip_broken=options.skip_broken)
    if broken:
        print(one_line(f"skipped: {describe_broken(broken)}"), file=sys.stderr)


@contextlib.contextmanager
def _open_predictions(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Yield a function that appends a batch to the file, which appears whole or not at all."""
    try:
        with (
            replacing(path) as new,
            new.open("wb") as file,
            _WRITERS[path.suffix.lower()](file, schema) as writing,
        ):
            yield writing.write_batch
    except OSError as error:
        raise InputError(
            f"the output must be writable, but {path} is not ({error.strerror or error})"
        ) from error
