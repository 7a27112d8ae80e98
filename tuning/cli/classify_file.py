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
from mianet.inference.prediction import Classifier
from tuning.cli.options import tracking_uri
from tuning.cli.prediction_files import FILES_SCHEMA, SCHEMA, check_suffix, open_predictions
from tuning.tracking.model_registry import load_classifier

Chunk = tuple[Float32[np.ndarray, "images features"], Sequence[int] | Sequence[str]]
"""Features, and what each image is called in the predictions."""


def classify_file(options: argparse.Namespace) -> int:
    """Classify images chunk by chunk; return the exit code."""
    check_suffix(options.output)
    if options.features and options.output.resolve() == options.features.resolve():
        raise InputError(f"predictions must go to another file, but got {options.output} twice")
    added = read_classes(options.add_classes) if options.add_classes else None
    classifier = load_classifier(options.model, tracking_uri(options))
    if added:
        classifier = classifier.add_classes(added.names, added.attributes)
    candidates = classifier.candidates(options.mode, options.top_k)
    names, top, images = np.asarray(classifier.class_names), options.top_k, 0
    chunks = _of_images(classifier, options) if options.images else _of_file(classifier, options)
    schema = FILES_SCHEMA if options.images else SCHEMA
    with open_predictions(options.output, schema) as write:
        for features, called in chunks:
            found = classifier.classify(
                features, mode=options.mode, top_k=top, calibration=options.calibration
            )
            columns = (
                [one for one in called for _ in range(top)],
                np.tile(np.arange(1, top + 1), len(features)),
                names[found.classes.ravel()],
                found.scores.ravel(),
            )
            arrays = map(pa.array, columns, schema.types)
            write(pa.record_batch(list(arrays), schema=schema))
            images += len(features)
    print(f"{images:,} images, each among {len(candidates)} classes: {options.output}")
    return 0


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
