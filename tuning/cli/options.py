"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import argparse
import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from mianet.errors import InputError
from tuning.spec.choices import MIANET, MODEL_NAMES

T = TypeVar("T")

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def add_study_options(parser: argparse.ArgumentParser, *, dataset_required: bool = True) -> None:
    """Add the options that name a recorded study: data set, data, tracking store, study."""
    parser.add_argument(
        "--dataset",
        required=dataset_required,
        help="SUN, CUB, AWA1, AWA2, aPY, FLO, numbers, …, or a folder with res101.mat and "
        "att_splits.mat",
    )
    parser.add_argument(
        "--data-dir",
        type=absolute_path,
        help="folder with the data sets (default: $MIANET_DATA_DIR, else ./data)",
    )
    add_tracking_option(parser)
    parser.add_argument("--study", type=study_name, help="name of the study")


def add_tracking_option(parser: argparse.ArgumentParser) -> None:
    """Add the tracking store that a command reads from or records to."""
    parser.add_argument(
        "--tracking-uri",
        help="MLflow store or server (default: $MLFLOW_TRACKING_URI, else ./mlflow.db)",
    )


def add_common_options(parser: argparse.ArgumentParser, *, dataset_required: bool = True) -> None:
    """Add the options of commands that train: those of a study, class embedding, resources."""
    add_study_options(parser, dataset_required=dataset_required)
    parser.add_argument(
        "--class-embedding",
        type=class_embedding,
        action="append",
        default=parser.argument_default or [],  # argparse appends to a copy
        metavar="FILE",
        help="vectors that describe the classes instead of the data set's attributes: .csv or "
        ".json with names, .npy, or .mat (:NAME, else att); several are put side by side",
    )
    parser.add_argument("--cpus-per-trial", type=positive_int, help="CPU cores of a training")
    parser.add_argument(
        "--gpus-per-trial",
        type=gpu_share,
        help="GPUs of a training; a fraction lets several share one (default: 1 if there are any)",
    )


def add_model_option(parser: argparse.ArgumentParser, default: str = MIANET) -> None:
    """Add the model to search, confirm or train."""
    parser.add_argument(
        "--model",
        choices=MODEL_NAMES,
        default=default,
        help=f"MIANet, or a published model to compare it with (default: {MIANET})",
    )


def add_storage_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the folder that keeps the state of studies."""
    parser.add_argument(
        "--storage",
        type=absolute_path,
        default="ray_results",
        help="folder for the state of studies, and for what MLflow has not received yet "
        "(default: ./ray_results)",
    )


def add_images_options(parser: argparse.ArgumentParser) -> None:
    """Add what is to be classified: a file of features, or images and how they are read."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("features", nargs="?", type=absolute_path, help=".mat, .npy or .parquet")
    what.add_argument(
        "--images",
        type=absolute_path,
        metavar="FOLDER",
        help="folder of images, or a list of them, for a model whose package says how its features "
        "were made",
    )
    images = parser.add_argument_group("with --images")
    images.add_argument("--weights", type=absolute_path, help="file of the network's weights")
    images.add_argument("--device", help="cpu, cuda, … (default: a GPU if there is one)")
    images.add_argument(
        "--batch", type=positive_int, default=32, help="images at once (default: %(default)s)"
    )
    images.add_argument(
        "--skip-broken", action="store_true", help="leave out files that are no whole images"
    )


def positive_int(text: str) -> int:
    """Read a whole number of at least 1."""
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, but got {text!r}")
    return int(text)


def count(text: str) -> int:
    """Read a whole number of at least 0."""
    return 0 if text == "0" else positive_int(text)


def seed(text: str) -> int:
    """Read a seed, 0 to 2³² - 1."""
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"must be from 0 to {2**32 - 1}, but got {text!r}")
    return int(text)


def gpu_share(text: str) -> float:
    """Read a number of GPUs: a fraction up to 1, or a whole number."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 <= value <= 1 or (value.is_integer() and 0 < value <= 1024)):
        raise argparse.ArgumentTypeError(
            f"must be a fraction from 0 to 1 or a whole number, but got {text!r}"
        )
    return value


def finite(text: str) -> float:
    """Read a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number, but got {text!r}")
    return value


def duration(text: str) -> float:
    """Read a time such as ``90``, ``90s``, ``30m`` or ``1.5h``; return seconds."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd]?)", text.strip().lower())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"must be a time such as 90s, 30m or 2h, but got {text!r}")
    return seconds


def assignment(text: str) -> tuple[str, str]:
    """Read ``name=value``."""
    name, separator, value = text.partition("=")
    if not (name.strip() and separator and value.strip()):
        raise argparse.ArgumentTypeError(f"must be name=value, but got {text!r}")
    return name.strip(), value.strip()


def value_range(text: str) -> tuple[str, tuple[float, float]]:
    """Read ``name=low:high``."""
    name, value = assignment(text)
    try:
        low, high = (float(part) for part in value.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be name=low:high, but got {text!r}") from None
    return name, (low, high)


def names(text: str) -> tuple[str, ...]:
    """Read names that are separated by commas; each may occur once."""
    given = tuple(name.strip() for name in text.split(",") if name.strip())
    if twice := [name for name in given if given.count(name) > 1]:
        raise argparse.ArgumentTypeError(f"must have each name once, but has {twice[0]!r} twice")
    return given


def once(option: str, pairs: Sequence[tuple[str, T]]) -> dict[str, T]:
    """Return name → value of an option that can be given several times.

    Raises:
        InputError: A name has two values.
    """
    given = [name for name, _ in pairs]
    if twice := [name for name in given if given.count(name) > 1]:
        raise InputError(f"{option} must be given once for {twice[0]}, but is twice; leave one out")
    return dict(pairs)


def study_name(text: str) -> str:
    """Read the name of a study, which is also the name of a folder and of a run."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        raise argparse.ArgumentTypeError(
            f"must be up to 100 letters, digits, '.', '_' and '-', but got {text!r}"
        )
    return text


def earlier_study(text: str) -> str:
    """Read ``STUDY`` or ``DATASET/STUDY``."""
    dataset, separator, name = text.rpartition("/")
    if separator and not dataset:
        raise argparse.ArgumentTypeError(f"must be STUDY or DATASET/STUDY, but got {text!r}")
    return f"{dataset.lower()}{separator}{study_name(name)}"


def writable_folder(path: Path, option: str = "--storage") -> Path:
    """Create the folder that an option names if it is missing, and check that it can be written to.

    Args:
        path: The folder.
        option: The option, for the error.

    Returns:
        The folder.

    Raises:
        InputError: It cannot be created, or not be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise InputError(
            f"{option} must be a folder that can be written to, but {path} is not ({error}); "
            "give another"
        ) from error


def class_embedding(text: str) -> str:
    """Read the path of a class embedding, maybe with the name of a matrix after a colon."""
    return str(absolute_path(text))


def absolute_path(text: str) -> Path:
    """Read a path and make it absolute, because trials run in other directories.

    Raises:
        InputError: The text cannot be a path.
    """
    from mianet.data import sources  # loads NumPy and HDF5, which --help need not wait for

    return sources.absolute_path(text, "a folder")
