"""Makes features of images: ``python -m mianet.extract IMAGES --backbone resnet101 --out f.npy``.

IMAGES is a folder with a subfolder for each class, or a list of files. The output is input for
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
    return run(lambda: command(options), interrupted="interrupted; the same command goes on")


def _images(options: argparse.Namespace) -> int:
    # These load PyTorch, which --help need not wait for.
    from mianet.extraction.features import extract, left_out
    from mianet.extraction.photos import find_photos
    from mianet.extraction.towers import open_tower

    photos = find_photos(options.images)
    if photos.others:
        print(
            f"left out: {len(photos.others):,} files that do not end as images do, such as "
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
        print(one_line(f"left out: {left_out(found.broken)}"), file=sys.stderr)
    classes = f" of {len(set(found.labels)):,} classes" if found.labels else ""
    each = 1000 * seconds / len(photos.files)
    print(
        f"{one_line(str(options.out))}: {len(found.images):,} images{classes}, "
        f"{tower.dimensions:,} features each by {found.backbone.words} "
        f"on {tower.device} in {seconds:.1f} s ({each:.1f} ms an image)"
    )
    return 0


def _classes(options: argparse.Namespace) -> int:
    from mianet.extraction.features import write_class_vectors
    from mianet.extraction.towers import open_tower

    tower = open_tower(options.backbone, options.weights, options.device)
    names = write_class_vectors(options.classes, tower, options.prompt, options.out, options.batch)
    print(
        f"{one_line(str(options.out))}: vectors of {len(names):,} classes by {tower.record.words}, "
        f'such as of "{one_line(names[0])}"'
    )
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m mianet.extract", description=__doc__, allow_abbrev=False)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "images", nargs="?", type=Path, help="folder of images, or a list of them: .txt or .csv"
    )
    what.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="names of classes, one a line, or the folder of a package: make vectors of them",
    )
    parser.add_argument(
        "--backbone",
        choices=BACKBONES,
        default="resnet101",
        help="; ".join(f"{name}: {one.summary}" for name, one in BACKBONES.items())
        + " (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, required=True, help="file to make: .npy, of names .csv")
    parser.add_argument("--weights", type=Path, help="file of the network's weights")
    parser.add_argument("--device", help="cpu, cuda, … (default: a GPU if there is one)")
    parser.add_argument(
        "--batch", type=whole_number(1), default=32, help="images at once (default: %(default)s)"
    )
    parser.add_argument(
        "--skip-broken", action="store_true", help="leave out files that are no whole images"
    )
    parser.add_argument(
        "--prompt",
        default=DEFAULT_PROMPT,
        help="text around a class's name, which stands for {} (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
