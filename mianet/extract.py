"""Extracts features: ``python -m mianet.extract IMAGES --backbone resnet101 --out f.npy``.

IMAGES is a folder with a subfolder for each class, or a list of files. The output is the input of
``python -m mianet.package build``. With --classes instead, class names become vectors for
--class-embedding.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mianet.command import Parser, run, whole_number
from mianet.errors import one_line
from mianet.extraction.backbones import BACKBONES

DEFAULT_PROMPT = "a photo of a {}."


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    command = _classes if options.classes else _images
    return run(lambda: command(options), interrupted="interrupted; repeat the command to resume")


def _images(options: argparse.Namespace) -> int:
    # These load PyTorch, which --help need not wait for.
    from mianet.extraction.features import describe_broken, extract
    from mianet.extraction.photos import find_photos
    from mianet.extraction.towers import open_tower

    photos = find_photos(options.images)
    if photos.others:
        print(
            f"skipped {len(photos.others):,} files without an image extension, such as "
            f"{one_line(photos.others[0])}",
            file=sys.stderr,
        )
    tower = open_tower(options.backbone, options.weights, options.device)
    started = time.monotonic()
    found = extract(
        photos, tower, options.out, batch=options.batch, skip_broken=options.skip_broken
    )
    seconds = time.monotonic() - started
    if found.broken:
        print(one_line(f"skipped: {describe_broken(found.broken)}"), file=sys.stderr)
    classes = f" of {len(set(found.labels)):,} classes" if found.labels else ""
    milliseconds = 1000 * seconds / len(photos.files)
    print(
        f"{one_line(str(options.out))}: {len(found.images):,} images{classes}, "
        f"{tower.dimensions:,} features each, from {found.backbone.label} "
        f"on {tower.device} in {seconds:.1f} s ({milliseconds:.1f} ms per image)"
    )
    return 0


def _classes(options: argparse.Namespace) -> int:
    from mianet.extraction.features import write_class_vectors
    from mianet.extraction.towers import open_tower

    tower = open_tower(options.backbone, options.weights, options.device)
    names = write_class_vectors(options.classes, tower, options.prompt, options.out, options.batch)
    print(
        f"{one_line(str(options.out))}: vectors of {len(names):,} classes, such as "
        f'"{one_line(names[0])}", from {tower.record.label}'
    )
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m mianet.extract", description=__doc__, allow_abbrev=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "images", nargs="?", type=Path, help="folder of images, or a .txt or .csv list of them"
    )
    source.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="class names to make vectors of: a file with one per line, or a package's folder",
    )
    parser.add_argument(
        "--backbone",
        choices=BACKBONES,
        default="resnet101",
        help="; ".join(f"{name}: {one.summary}" for name, one in BACKBONES.items())
        + " (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help=".npy file to write (.csv for names)"
    )
    parser.add_argument("--weights", type=Path, help="file with the network's weights")
    parser.add_argument("--device", help="cpu, cuda, … (default: a GPU if there is one)")
    parser.add_argument(
        "--batch", type=whole_number(1), default=32, help="images per batch (default: %(default)s)"
    )
    parser.add_argument(
        "--skip-broken", action="store_true", help="skip files that are damaged or not images"
    )
    parser.add_argument(
        "--prompt",
        default=DEFAULT_PROMPT,
        help="text around a class's name, which replaces {} (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
