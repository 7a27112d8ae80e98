"""A file of features or a folder of images in, a file of class names out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from mianet.data.class_vectors import read_classes
from mianet.errors import InputError, one_line
from mianet.inference.feature_files import read_features
from mianet.inference.prediction import Classified, Classifier
from tuning.cli.prediction_files import FILES_SCHEMA, SCHEMA, check_suffix, open_predictions
from tuning.cli.tracking_store import tracking_uri
from tuning.tracking.model_registry import load_classifier

Chunk = tuple[Float32[np.ndarray, "images features"], Sequence[int] | Sequence[str]]
"""Features, and what each image is called in the predictions."""


def classify_file(options: argparse.Namespace) -> int:
    """Classify images; return the exit code."""
    check_suffix(options.output)
    if options.features and options.output.resolve() == options.features.resolve():
        raise InputError(f"predictions must go to another file, but got {options.output} twice")
    added = read_classes(options.add_classes) if options.add_classes else None
    uri = tracking_uri(options)
    classifier = load_classifier(options.model, uri)
    if added:
        classifier = classifier.add_classes(added.names, added.attributes)
    candidates = classifier.candidates(options.mode, options.top_k)
    images = _classify_all(classifier, options)
    print(f"{images:,} images, each among {len(candidates)} classes: {options.output}")
    return 0


def _classify_all(classifier: Classifier, options: argparse.Namespace) -> int:
    """Classify chunk by chunk; return the number of images."""
    chunks = _of_images(classifier, options) if options.images else _of_file(classifier, options)
    schema = FILES_SCHEMA if options.images else SCHEMA
    images = 0
    with open_predictions(options.output, schema) as write:
        for features, called in chunks:
            found = classifier.classify(
                features,
                mode=options.mode,
                top_k=options.top_k,
                calibration=options.calibration,
            )
            write(_rows(found, np.asarray(classifier.class_names), called, schema))
            images += len(features)
    return images


def _of_file(classifier: Classifier, options: argparse.Namespace) -> Iterator[Chunk]:
    first = 0
    for chunk in read_features(options.features, classifier.feature_dim, key=options.key):
        yield chunk, range(first, first + len(chunk))
        first += len(chunk)


def _of_images(classifier: Classifier, options: argparse.Namespace) -> Iterator[Chunk]:
    """Make the features of images as those of the model's data set were made."""
    if classifier.backbone is None:
        raise InputError(
            "a model must say how its features were made to take images, but this one does not: "
            "its data set is not of `python -m mianet.extract`; give features instead"
        )
    # Loads the networks' libraries, which features need not wait for.
    from mianet.extraction.features import left_out, whole_batches
    from mianet.extraction.photos import find_photos
    from mianet.extraction.towers import as_recorded

    photos = find_photos(options.images)
    tower = as_recorded(classifier.backbone, options.weights, options.device)
    broken: dict[str, str] = {}
    yield from whole_batches(photos, tower, options.batch, broken, skip_broken=options.skip_broken)
    if broken:
        print(one_line(f"left out: {left_out(broken)}"), file=sys.stderr)


def _rows(
    found: Classified, names: np.ndarray, called: Sequence[int] | Sequence[str], schema: pa.Schema
) -> pa.RecordBatch:
    images, top = found.classes.shape
    columns = (
        [one for one in called for _ in range(top)],
        np.tile(np.arange(1, top + 1), images),
        names[found.classes.ravel()],
        found.scores.ravel(),
    )
    return pa.record_batch(
        [pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)],
        schema=schema,
    )
