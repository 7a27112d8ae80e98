"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import argparse
import math
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mianet.addresses import HIDDEN, without_credentials
from mianet.command import whole_number
from mianet.errors import InputError
from tuning.spec.choices import MIANET, MODEL_NAMES
from tuning.tracking.address import absolute_tracking_uri, default_tracking_uri

T = TypeVar("T")

Options = argparse.ArgumentParser | argparse._ArgumentGroup


def tracking_uri(options: argparse.Namespace) -> str:
    """Return the tracking store that was asked for.

    Warn about a password on the command line, which every user of the machine can read.
    """
    given = options.tracking_uri
    if given and HIDDEN not in given and without_credentials(given) != given:
        print(
            "warning: every user of this machine can read the password in --tracking-uri; set "
            "MLFLOW_TRACKING_URI to the address instead",
            file=sys.stderr,
        )
    return absolute_tracking_uri(given) if given else default_tracking_uri()


def _must_be(what: str, text: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"must be {what}, but got {text!r}")


positive_int = whole_number(1)
count = whole_number(0)


def seed(text: str) -> int:
    """Read a seed, 0 to 2³² - 1."""
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) >= 2**32:
        raise _must_be(f"from 0 to {2**32 - 1}", text)
    return int(text)


def _number(text: str) -> float:
    """Return a number; NaN if the text is not one."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def gpu_share(text: str) -> float:
    """Read a number of GPUs: a fraction up to 1, or a whole number."""
    value = _number(text)
    if not (0 <= value <= 1 or (value.is_integer() and 0 < value <= 1024)):
        raise _must_be("a fraction from 0 to 1 or a whole number", text)
    return value


def finite(text: str) -> float:
    value = _number(text)
    if not math.isfinite(value):
        raise _must_be("a finite number", text)
    return value


def duration(text: str) -> float:
    """Read a time such as ``90``, ``90s``, ``30m`` or ``1.5h``; return seconds."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd]?)", text.strip().lower())
    unit = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
    seconds = float(match[1]) * unit[match[2]] if match else 0.0
    if seconds <= 0:
        raise _must_be("a time such as 90s, 30m or 2h", text)
    return seconds


def assignment(text: str) -> tuple[str, str]:
    name, value = (part.strip() for part in text.partition("=")[::2])
    if not (name and value):
        raise _must_be("name=value", text)
    return name, value


def value_range(text: str) -> tuple[str, tuple[float, float]]:
    name, value = assignment(text)
    try:
        low, high = map(float, value.split(":"))
    except ValueError:
        raise _must_be("name=low:high", text) from None
    return name, (low, high)


def names(text: str) -> tuple[str, ...]:
    """Read names that are separated by commas; each may occur once."""
    given = tuple(name.strip() for name in text.split(",") if name.strip())
    if repeated := [name for name in given if given.count(name) > 1]:
        raise argparse.ArgumentTypeError(
            f"must have each name only once, but repeats {repeated[0]!r}"
        )
    return given


def without_repeats(option: str, pairs: Sequence[tuple[str, T]]) -> dict[str, T]:
    """Return name → value of an option that may be repeated, but not for the same name."""
    given = [name for name, _ in pairs]
    if repeated := [name for name in given if given.count(name) > 1]:
        raise InputError(
            f"{option} must be given only once for {repeated[0]}, but is repeated; remove one"
        )
    return dict(pairs)


def study_name(text: str) -> str:
    """Read the name of a study, which is also the name of a folder and of a run."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        raise _must_be("up to 100 letters, digits, '.', '_' and '-'", text)
    return text


def earlier_study(text: str) -> str:
    dataset, separator, name = text.rpartition("/")
    if separator and not dataset:
        raise _must_be("STUDY or DATASET/STUDY", text)
    return f"{dataset.lower()}{separator}{study_name(name)}"


def writable_folder(path: Path, option: str = "--storage") -> Path:
    """Create the folder that an option names; refuse it if it cannot be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise InputError(
            f"{option} must be a writable folder, but {path} is not ({error}); give another"
        ) from error


def absolute_path(text: str) -> Path:
    """Read a path and make it absolute, because trials run in other directories."""
    from mianet.data import sources  # loads NumPy and HDF5, which --help does not need

    return sources.absolute_path(text, "a folder")


SHARED: Mapping[str, Mapping[str, Any]] = {
    "--dataset": {
        "required": True,
        "help": "SUN, CUB, AWA1, AWA2, aPY, FLO, numbers, …, or a folder with res101.mat and "
        "att_splits.mat",
    },
    "--data-dir": {
        "type": absolute_path,
        "help": "folder with the data sets (default: $MIANET_DATA_DIR, else ./data)",
    },
    "--tracking-uri": {
        "help": "MLflow store or server (default: $MLFLOW_TRACKING_URI, else ./mlflow.db)"
    },
    "--study": {"type": study_name, "help": "name of the study"},
    "--class-embedding": {
        "type": lambda text: str(absolute_path(text)),
        "action": "append",
        "default": [],
        "metavar": "FILE",
        "help": "vectors that describe the classes instead of the data set's attributes: .csv or "
        ".json with names, .npy, or .mat (:NAME, else att); several are concatenated",
    },
    "--cpus-per-trial": {"type": positive_int, "help": "CPU cores per training"},
    "--gpus-per-trial": {
        "type": gpu_share,
        "help": "GPUs per training; a fraction lets several share one (default: chosen "
        "automatically)",
    },
    "--model": {
        "choices": MODEL_NAMES,
        "default": MIANET,
        "help": "MIANet, or a published model to compare it with (default: %(default)s)",
    },
    "--storage": {
        "type": absolute_path,
        "default": "ray_results",
        "help": "folder for the state of studies, and for what MLflow has not received yet "
        "(default: ./ray_results)",
    },
}
"""Options of several commands, as ``add_argument`` takes them."""

STUDY = ("--dataset", "--data-dir", "--tracking-uri", "--study")  # what identifies a recorded study
TRAINING = (*STUDY, "--class-embedding", "--cpus-per-trial", "--gpus-per-trial")
"""Options of all commands that train."""


def add_shared(parser: Options, *names: str, **changes: Any) -> None:
    """Add options of ``SHARED``.

    Args:
        parser: Where to add them.
        names: Which ones.
        changes: Settings that differ from those in ``SHARED``.
    """
    for name in names:
        parser.add_argument(name, **{**SHARED[name], **changes})
