"""Name the classes of many images: ``python tuning/predict.py --model … features.npy out.csv``.

The model is one that a final training registered, or a folder or file of such a model. The
features may be more than fit into memory. No code that comes with a model is run.
"""

from __future__ import annotations

import argparse
import math
from typing import NoReturn

import numpy as np
import pyarrow as pa

from mianet.data.feature_files import DEFAULT_KEY, read_features
from mianet.errors import InputError
from mianet.inference.new_classes import read_classes
from mianet.inference.prediction import GZSL, MODES, Classified, Classifier
from tuning.cli.command_line import Parser, absolute_path, positive_int, run, tracking_uri
from tuning.cli.prediction_files import SCHEMA, check_ending, open_predictions
from tuning.tracking.model_registry import load_classifier


def main() -> NoReturn:
    """Run the command line and exit."""
    run(predict)


def predict() -> int:
    """Do what the command line says; return the exit code."""
    arguments = _parser().parse_args()
    check_ending(arguments.output)
    if arguments.output.resolve() == arguments.features.resolve():
        raise InputError(f"predictions must go to another file, but got {arguments.output} twice")
    added = read_classes(arguments.add_classes) if arguments.add_classes else None
    classifier = load_classifier(arguments.model, tracking_uri(arguments))
    if added:
        classifier = classifier.add_classes(added.names, added.attributes)
    candidates = classifier.candidates(arguments.mode, arguments.top_k)
    images = _classify_all(classifier, arguments)
    print(f"{images:,} images, each among {len(candidates)} classes: {arguments.output}")
    return 0


def _classify_all(classifier: Classifier, arguments: argparse.Namespace) -> int:
    """Classify chunk by chunk; return the number of images."""
    chunks = read_features(arguments.features, classifier.feature_dim, key=arguments.key)
    images = 0
    with open_predictions(arguments.output) as write:
        for chunk in chunks:
            found = classifier.classify(
                chunk,
                mode=arguments.mode,
                top_k=arguments.top_k,
                calibration=arguments.calibration,
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


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="predict.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("features", type=absolute_path, help=".mat, .npy or .parquet")
    parser.add_argument("output", type=absolute_path, help=".csv, .parquet or .jsonl")
    parser.add_argument(
        "--model",
        required=True,
        help="models:/<name>@champion, models:/<name>/<version>, runs:/<run id>, a folder or file",
    )
    parser.add_argument(
        "--tracking-uri",
        help="MLflow store or server (default: $MLFLOW_TRACKING_URI, else ./mlflow.db)",
    )
    parser.add_argument(
        "--key",
        default=DEFAULT_KEY,
        help="variable of a .mat file, or column of lists of a .parquet file (default: features)",
    )
    parser.add_argument(
        "--mode", choices=MODES, default=GZSL, help="among all classes, or the unseen ones (zsl)"
    )
    parser.add_argument("--top-k", type=positive_int, default=1, help="classes for each image")
    parser.add_argument(
        "--add-classes",
        type=absolute_path,
        metavar="FILE",
        help=".json or .csv with names and attributes of classes that the model does not know",
    )
    parser.add_argument(
        "--calibration",
        type=_finite,
        help="subtract this from seen classes' scores (default: the model's own)",
    )
    return parser


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number, but got {text!r}")
    return value


if __name__ == "__main__":
    main()
