"""Builds and checks data sets: ``python -m mianet.package build`` and ``check``.

A package is a folder with res101.mat and att_splits.mat, which commands accept as --dataset.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mianet.command import Parser, run, whole_number
from mianet.data.build import build
from mianet.data.inspection import inspect
from mianet.data.sources import absolute_path
from mianet.data.tables import FEATURES
from mianet.errors import one_line


def main(arguments: Sequence[str] | None = None) -> int:
    options = vars(_parser().parse_args(arguments))
    command, folder = options.pop("command"), options.pop("folder")
    return run(
        lambda: command(absolute_path(folder, "the package"), **options),
        interrupted="interrupted; nothing was written",
    )


def _build(folder: Path, **inputs: Any) -> int:
    images = build(folder, **inputs)
    seen, unseen = images.class_counts
    print(
        f"{folder}: {len(images.labels):,} images of {seen} seen and {unseen} unseen classes\n"
        f"to inspect it: python -m mianet.package check {one_line(str(folder))}"
    )
    return 0


def _check(folder: Path) -> int:
    contents, warnings = inspect(folder)
    lines = [*contents, *(f"warning: {warning}" for warning in warnings)]
    print(*map(one_line, lines), sep="\n")
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m mianet.package", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(metavar="command", required=True)
    check = commands.add_parser("check", help="describe a package and warn of problems in it")
    check.add_argument("folder", help="folder with res101.mat and att_splits.mat")
    check.set_defaults(command=_check)
    new = commands.add_parser("build", help="build a package from features, labels and attributes")
    new.set_defaults(command=_build)
    new.add_argument("folder", help="folder to create")
    new.add_argument(
        "--features",
        type=Path,
        required=True,
        help=".npz, .h5, .mat, .parquet or .csv, which may have labels, or .npy",
    )
    new.add_argument(
        "--key", default=FEATURES, help="array or column with the features (default: %(default)s)"
    )
    new.add_argument(
        "--labels", type=Path, help="class of each image, by name or number: .npy, .csv or .txt"
    )
    new.add_argument(
        "--attributes",
        type=Path,
        required=True,
        help="a vector for each class: .csv or .json with names, .npy, or .mat (FILE.mat:NAME; "
        "NAME is att by default)",
    )
    new.add_argument("--classes", type=Path, help="file of class names, one per line")
    new.add_argument(
        "--unseen",
        default="0.2",
        help="share of the classes to draw as unseen, or a file that names them (default: 0.2)",
    )
    new.add_argument(
        "--split",
        type=Path,
        help="file with trainval, test_seen, test_unseen or - for each image, one per line",
    )
    new.add_argument(
        "--test-seen",
        type=_share,
        default=0.2,
        metavar="SHARE",
        help="share of the seen classes' images to draw for testing (default: 0.2)",
    )
    new.add_argument(
        "--seed", type=whole_number(0), default=0, help="seed of the draws (default: 0)"
    )
    return parser


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, but got {text!r}")
    return share


if __name__ == "__main__":
    sys.exit(main())
