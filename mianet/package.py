"""Makes and checks data sets: ``python -m mianet.package build`` and ``check``.

A package is a folder with res101.mat and att_splits.mat in the field's layout, which search.py and
the other commands take by --dataset.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from mianet.data.build import Ingredients, build
from mianet.data.inspection import inspect
from mianet.data.sources import absolute_path
from mianet.data.tables import FEATURES
from mianet.errors import InputError, one_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 2 for the user to do something first, 130 if interrupted."""
    options = _parser().parse_args(arguments)
    try:
        folder = absolute_path(options.folder, "the package")
        return _build(folder, options) if options.command == "build" else _check(folder)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130


def _build(folder: Path, options: argparse.Namespace) -> int:
    images = build(
        Ingredients(
            **{name: value for name, value in vars(options).items() if name in _INGREDIENTS}
        ),
        folder,
    )
    seen, unseen = (
        len(np.unique(images.labels[rows])) for rows in (images.trainval, images.test_unseen)
    )
    print(
        f"{folder}: {len(images.labels):,} images of {seen} seen and {unseen} unseen classes\n"
        f"to look at it: python -m mianet.package check {one_line(str(folder))}"
    )
    return 0


def _check(folder: Path) -> int:
    contents, warnings = inspect(folder)
    lines = [*contents, *(f"warning: {warning}" for warning in warnings)]
    print(*map(one_line, lines), sep="\n")
    return 0


_INGREDIENTS = frozenset(Ingredients.__dataclass_fields__)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {one_line(message)} (--help lists the options)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m mianet.package", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    check = commands.add_parser("check", help="say what is in a package, and what is odd about it")
    check.add_argument("folder", help="folder with res101.mat and att_splits.mat")
    made = commands.add_parser("build", help="make a package of features, labels and attributes")
    made.add_argument("folder", help="folder to make")
    made.add_argument(
        "--features",
        type=Path,
        required=True,
        help=".npy, .npz, .h5, .mat, .parquet or .csv; but for .npy, with labels",
    )
    made.add_argument(
        "--key", default=FEATURES, help="array or column of the features (default: %(default)s)"
    )
    made.add_argument(
        "--labels", type=Path, help="class of each image, by name or number: .npy, .csv or .txt"
    )
    made.add_argument(
        "--attributes",
        type=Path,
        required=True,
        help="a vector for each class: .csv or .json with names, .npy, or .mat (:NAME, else att)",
    )
    made.add_argument("--classes", type=Path, help="names of the classes, one a line")
    made.add_argument(
        "--unseen",
        default="0.2",
        help="share of the classes to draw as unseen, or a file that names them (default: 0.2)",
    )
    made.add_argument(
        "--split",
        type=Path,
        help="trainval, test_seen, test_unseen or - for each image, one a line",
    )
    made.add_argument("--test-seen", type=_share, default=0.2, metavar="SHARE", help="default: 0.2")
    made.add_argument("--seed", type=_seed, default=0, help="of what is drawn (default: 0)")
    return parser


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, but got {text!r}")
    return share


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 11):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, but got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
