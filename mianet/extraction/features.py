"""Writes features of images, and vectors of class names for ``--class-embedding``, to files."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import sys
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from filelock import FileLock, Timeout
from jaxtyping import Float32
from PIL import UnidentifiedImageError
from tqdm import tqdm

from mianet.data.extracted import Extracted, exposure, record_path, write_backbone
from mianet.data.files import file_digest, replacing
from mianet.data.folders import read_splits
from mianet.data.tables import read_lines
from mianet.errors import InputError
from mianet.extraction.photos import Photos, check_header, read_photo
from mianet.extraction.towers import Tower, normalised_texts

BATCHES_AHEAD = 2  # batches read while one is computed
SHOWN = 5  # broken images named in a message
_ROWS_AT_ONCE = 4096


Features: TypeAlias = Float32[np.ndarray, "images dimensions"]
Batch: TypeAlias = tuple[Sequence[str], Features, Mapping[str, str]]
"""Files, the features of each (NaN if not an image), and file → reason for those that are not."""


def extract(
    photos: Photos, tower: Tower, out: Path, *, batch: int, skip_broken: bool = False
) -> Extracted:
    """Make a ``.npy`` file of features, with their record next to it.

    Results are kept in ``<out>.part`` until complete: repeating the call resumes from them.

    Args:
        photos: The images.
        tower: The network.
        out: The file to make; must not exist yet.
        batch: Images per batch.
        skip_broken: Leave out files that are not images, instead of refusing them.
    """
    if out.suffix.lower() != ".npy" or out.exists():
        raise InputError(f"--out must be a new .npy file, but got {out}; give another name")
    broken = _unreadable_headers(photos)
    _refuse(broken, photos, skip_broken)
    part = out.with_name(f"{out.name}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        with FileLock(part / "lock", timeout=0):
            _complete(part, photos, tower, batch)
            extracted = _finish(part, photos, tower, out, skip_broken)
        shutil.rmtree(part, ignore_errors=True)
    except Timeout as error:
        raise InputError(f"another process is writing {out}; wait for it to finish") from error
    except OSError as error:
        raise InputError(
            f"--out must be on a disk with enough free space, but {out} cannot be written "
            f"({error}); give another"
        ) from error
    return extracted


def batches(photos: Photos, tower: Tower, batch: int, first: int = 0) -> Iterator[Batch]:
    """Yield the features of images, in order, and show progress.

    Args:
        photos: The images.
        tower: The network.
        batch: Images per batch.
        first: The image to start with.
    """
    waiting: deque[tuple[Sequence[str], list[Future[np.ndarray]]]] = deque()
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(photos.files), initial=first, unit="image", disable=None) as bar,
    ):

        def next_batch() -> Batch:
            files, read = waiting.popleft()
            bar.update(len(files))
            return _encode(files, read, tower)

        try:
            for start in range(first, len(photos.files), batch):
                files = photos.files[start : start + batch]
                paths = [photos.root / name for name in files]
                read = [pool.submit(read_photo, path, tower.preprocessing) for path in paths]
                waiting.append((files, read))
                if len(waiting) > BATCHES_AHEAD:
                    yield next_batch()
            while waiting:
                yield next_batch()
        finally:
            pool.shutdown(cancel_futures=True)


def whole_batches(
    photos: Photos, tower: Tower, batch: int, broken: dict[str, str], *, skip_broken: bool
) -> Iterator[tuple[Features, list[str]]]:
    """Yield the features of the intact images, with their files.

    Args:
        photos: The images.
        tower: The network.
        batch: Images per batch.
        broken: Filled with the files that are not images, and the reasons.
        skip_broken: Leave those out, instead of refusing them.
    """
    broken |= _unreadable_headers(photos)
    _refuse(broken, photos, skip_broken)
    for files, features, found in batches(photos, tower, batch):
        broken |= found
        _refuse(broken, photos, skip_broken)
        kept = [row for row, name in enumerate(files) if name not in found]
        if kept:
            yield features[kept], [files[row] for row in kept]


def describe_broken(broken: Mapping[str, str]) -> str:
    """Describe which files are not images, naming the first few."""
    named = [f"{name} ({reason})" for name, reason in list(broken.items())[:SHOWN]]
    more = f" and {len(broken) - SHOWN:,} more" if len(broken) > SHOWN else ""
    return ", ".join(named) + more


def _encode(files: Sequence[str], read: list[Future[np.ndarray]], tower: Tower) -> Batch:
    images, broken = {}, {}
    for row, (name, one) in enumerate(zip(files, read, strict=True)):
        try:
            images[row] = torch.from_numpy(one.result())
        except Exception as error:  # damaged and hostile files raise almost anything
            broken[name] = _reason(error)
    features = np.full((len(files), tower.dimensions), np.nan, np.float32)
    if images:
        features[list(images)] = _features(torch.stack(list(images.values())), tower)
    return files, features, broken


def _features(images: torch.Tensor, tower: Tower) -> Features:
    try:
        with torch.inference_mode():
            found = tower.encode(images.to(tower.device)).float().cpu().numpy()
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"a batch must fit into the memory of {tower.device}, but {len(images)} images do not; "
            "give a smaller --batch"
        ) from error
    if found.shape[1] != tower.dimensions or not np.isfinite(found).all():
        raise InputError(
            f"{tower.record.name} must give {tower.dimensions} finite features, but gives "
            f"{found.shape[1]}, perhaps not finite; give the right --weights, undamaged"
        )
    return np.asarray(found)


def _unreadable_headers(photos: Photos) -> dict[str, str]:
    """Return the files whose headers are not those of images, with the reasons."""

    def look(name: str) -> str:
        try:
            check_header(photos.root / name)
        except Exception as error:  # as above
            return _reason(error)
        return ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = zip(photos.files, pool.map(look, photos.files), strict=True)
        return {name: reason for name, reason in found if reason}


def _refuse(broken: Mapping[str, str], photos: Photos, skip: bool) -> None:
    if len(broken) == len(photos.files):
        raise InputError(f"files must be images, but none is: {describe_broken(broken)}")
    if broken and not skip:
        raise InputError(
            f"files must be intact images, but {len(broken):,} of {len(photos.files):,} are not: "
            f"{describe_broken(broken)}; remove them, or skip them with --skip-broken"
        )


def _complete(part: Path, photos: Photos, tower: Tower, batch: int) -> None:
    """Compute the rows that are not in ``part`` yet."""
    key, width = _key(photos, tower), 4 * tower.dimensions
    rows, noted = part / "rows", part / "broken.json"
    if not (part / "key").is_file() or (part / "key").read_text() != key:
        rows.write_bytes(b"")
        noted.write_text("{}")
        (part / "key").write_text(key)
    done = rows.stat().st_size // width
    os.truncate(rows, done * width)
    if done:
        print(f"resuming after {done:,} of {len(photos.files):,} images", file=sys.stderr)
    broken: dict[str, str] = json.loads(noted.read_text())
    with rows.open("ab") as file:
        for _, features, found in batches(photos, tower, batch, done):
            if found:
                broken |= found
                noted.write_text(json.dumps(broken))
            file.write(features.tobytes())
            file.flush()


def _key(photos: Photos, tower: Tower) -> str:
    """Return a digest of everything that the rows depend on."""
    states = [
        (name, (status := (photos.root / name).stat()).st_size, status.st_mtime_ns)
        for name in photos.files
    ]
    text = json.dumps([tower.record.as_dict(), str(photos.root.absolute()), states], default=list)
    return hashlib.sha256(text.encode()).hexdigest()


def _finish(part: Path, photos: Photos, tower: Tower, out: Path, skip: bool) -> Extracted:
    """Put the complete rows in place, with their record."""
    broken = json.loads((part / "broken.json").read_text())
    _refuse(broken, photos, skip)
    kept = [row for row, name in enumerate(photos.files) if name not in broken]
    shape = (len(photos.files), tower.dimensions)
    rows = np.memmap(part / "rows", np.float32, "r", shape=shape)
    with (part / "features.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(kept), shape[1])}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(kept), _ROWS_AT_ONCE):
            file.write(rows[kept[start : start + _ROWS_AT_ONCE]].data)
    extracted = Extracted(
        tower.record,
        [photos.files[row] for row in kept],
        [photos.labels[row] for row in kept] if photos.labels else None,
        file_digest(part / "features.npy"),
        broken,
    )
    (part / "record").write_text(extracted.text(), encoding="utf-8")
    (part / "record").replace(record_path(out))
    (part / "features.npy").replace(out)
    return extracted


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:80]}" if text else type(error).__name__


def write_class_vectors(
    names_from: Path, tower: Tower, prompt: str, out: Path, batch: int
) -> tuple[str, ...]:
    """Write each class's name and the vector of its prompt, and the record; return the names.

    Args:
        names_from: A file with one name per line, or the folder of a package.
        tower: A network with a text tower.
        prompt: The text around a name, which replaces ``{}``.
        out: The ``.csv`` file to make; must not exist yet.
        batch: Texts per batch.
    """
    if out.suffix.lower() != ".csv" or out.exists():
        raise InputError(f"--out must be a new .csv file, but got {out}; give another name")
    if prompt.count("{}") != 1 or set(prompt.replace("{}", "")) & set("{}"):
        raise InputError(f"--prompt must have one {{}}, for the class's name, but got {prompt!r}")
    names = read_splits(names_from, None)[2] if names_from.is_dir() else _lines(names_from)
    texts = [prompt.format(readable(name)) for name in names]
    parts = [
        normalised_texts(tower, texts[start : start + batch])
        for start in range(0, len(texts), batch)
    ]
    vectors = torch.cat(parts).tolist()
    heading = ["class", *(f"d{k}" for k in range(len(vectors[0])))]
    rows = [[name, *map("{:.7g}".format, row)] for name, row in zip(names, vectors, strict=True)]
    try:
        with replacing(out) as new:
            with new.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([heading, *rows])
            warning = exposure(tower.record, None)
            write_backbone(record_path(out), replace(tower.record, warning=warning))
    except OSError as error:
        raise InputError(f"--out must be writable, but {out} is not ({error})") from error
    return names


def readable(name: str) -> str:
    """Return a class's name as plain words, such as for ``001.Black_footed_Albatross``."""
    return " ".join(re.sub(r"[_+]", " ", re.sub(r"^\d+\.", "", name)).split())


def _lines(path: Path) -> tuple[str, ...]:
    names = read_lines(path)
    name, count = Counter(names).most_common(1)[0] if names else ("", 1)
    if count > 1 or "" in names or not names:
        raise InputError(
            f"{path} must name each class once, one per line, but has {name!r} {count} times or "
            "an empty line"
        )
    return tuple(names)
