"""A file of features in, a file of class names out."""

from __future__ import annotations

import argparse

import numpy as np
import pyarrow as pa

from mianet.data.new_classes import read_classes
from mianet.errors import InputError
from mianet.inference.feature_files import read_features
from mianet.inference.prediction import Classified, Classifier
from tuning.cli.prediction_files import SCHEMA, check_suffix, open_predictions
from tuning.cli.tracking_store import tracking_uri
from tuning.tracking.model_registry import load_classifier


def classify_file(options: argparse.Namespace) -> int:
    """Classify the images of a file; return the exit code."""
    check_suffix(options.output)
    if options.output.resolve() == options.features.resolve():
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
    chunks = read_features(options.features, classifier.feature_dim, key=options.key)
    images = 0
    with open_predictions(options.output) as write:
        for chunk in chunks:
            found = classifier.classify(
                chunk,
                mode=options.mode,
                top_k=options.top_k,
                calibration=options.calibration,
            )
            write(_rows(found, np.asarray(classifier.class_names), images))
            images += len(chunk)
    return images


def _rows(found: Classified, names: np.ndarray, first_image: int) -> pa.RecordBatch:
    images, top = found.classes.shape
    columns = (
        np.repeat(np.arange(first_image, first_image + images), top),
        np.tile(np.arange(1, top + 1), images),
        names[found.classes.ravel()],
        found.scores.ravel(),
    )
    return pa.record_batch(
        [pa.array(values, kind) for values, kind in zip(columns, SCHEMA.types, strict=True)],
        schema=SCHEMA,
    )
