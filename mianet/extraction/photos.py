"""Finds image files and reads them in the form that a network needs."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageOps

from mianet.data.tables import read_lines
from mianet.errors import InputError
from mianet.extraction.backbones import Preprocessing

ENDINGS = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"),
    *(".jp2", ".avif"),
)
"""Endings of files that are treated as images, in lower case."""
Image.init()
_FORMATS = tuple(
    name
    for name in ("JPEG", "MPO", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
    if name in Image.OPEN
)
"""What a file may contain, whatever its ending; among others, PostScript would be executed."""


@dataclass(frozen=True)
class Photos:
    """Image files."""

    root: Path  # the folder that their names are relative to
    files: tuple[str, ...]  # with slashes
    labels: tuple[str, ...] | None  # None if they are not sorted by class
    others: tuple[str, ...] = ()  # files without an image ending


def find_photos(path: Path) -> Photos:
    """Return the images of a folder, or those that a file lists, in a fixed order.

    Each subfolder, if there are any, is a class; images may lie deeper in it. A list is a ``.txt``
    file with one path per line, or a ``.csv`` file with the columns image and class; paths are
    relative to the list's folder.
    """
    if path.is_dir():
        photos = _from_folder(path)
    elif path.is_file() and path.suffix.lower() in (".txt", ".csv"):
        photos = _from_list(path)
    else:
        raise InputError(
            f"images must be a folder, or a list of files in .txt or .csv, but {path} is neither"
        )
    if not photos.files:
        raise InputError(
            f"there must be images in {path}, but no file ends in {', '.join(ENDINGS)}; give "
            "another folder"
        )
    for name in (*photos.files, *(photos.labels or ())):
        if not name.isprintable():
            raise InputError(f"file and class names must be printable, but one is {name!r}")
    return photos


def read_photo(path: Path, prepare: Preprocessing) -> Float32[np.ndarray, "3 size size"]:
    """Read an image: upright, RGB, scaled, cropped, normalised. A non-image may raise anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images, and of odd entries in their headers
        with Image.open(path, formats=_FORMATS) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    size, scale = prepare.size, prepare.resize / min(image.size)
    width, height = (max(size, round(scale * side)) for side in image.size)
    method = Image.Resampling[prepare.interpolation.upper()]
    image = image.resize((width, height), method)
    left, top = (width - size) // 2, (height - size) // 2
    image = image.crop((left, top, left + size, top + size))
    colours = np.asarray(image, np.float32) / 255
    normalised = (colours - np.array(prepare.mean, np.float32)) / np.array(prepare.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))


def check_header(path: Path) -> None:
    """Check, quickly, that a file has an image header; others raise almost anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=_FORMATS):
            pass


def _from_folder(root: Path) -> Photos:
    found = sorted(_walk(root))
    images = [name for name in found if name.lower().endswith(ENDINGS)]
    others = tuple(name for name in found if not name.lower().endswith(ENDINGS))
    classes = [name.partition("/") for name in images]
    flat = [name for name, slash, _ in classes if not slash]
    if flat and len(flat) < len(images):
        raise InputError(
            f"images must either all be in class folders or all outside, but {flat[0]} is beside "
            f"the folders in {root}; move it into one"
        )
    labels = None if flat else tuple(name for name, _, _ in classes)
    return Photos(root, tuple(images), labels, others)


def _walk(root: Path) -> Iterator[str]:
    """Yield the files below a folder, except hidden ones."""

    def refuse(error: OSError) -> None:
        raise InputError(
            f"folders of images must be readable, but {error.filename} is not ({error.strerror})"
        ) from error

    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(folder).relative_to(root)
        yield from ((inside / name).as_posix() for name in files if not name.startswith("."))


def _from_list(path: Path) -> Photos:
    files, labels = _rows(path) if path.suffix.lower() == ".csv" else (read_lines(path), None)
    for name in files:
        if not (path.parent / name).is_file():
            raise InputError(
                f"{path} must list files by paths relative to its folder, but there is no {name!r}"
            )
    return Photos(path.parent, tuple(files), None if labels is None else tuple(labels))


def _rows(path: Path) -> tuple[list[str], list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        return [row["image"].strip() for row in rows], [row["class"].strip() for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} must be a table with the columns image and class, but is not ({error!r})"
        ) from error
