"""Vectors that describe classes, from a table of attributes or from embeddings of their names."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from mianet.data.extracted import BackboneRecord, read_backbone, record_path
from mianet.data.files import file_digest
from mianet.data.folders import unit_length
from mianet.data.images import Checks, as_float32
from mianet.data.matfiles import read_mat
from mianet.errors import InputError

ENDINGS = (".csv", ".json", ".npy", ".mat")
_WITH_NAMES = ENDINGS[:2]
_SHAPE = 'JSON such as {"zebra": [0.1, 0.2]}, or CSV lines such as zebra,0.1,0.2'


@dataclass(frozen=True)
class ClassVectors:
    """Vectors of classes."""

    names: tuple[str, ...]  # empty if the file has none, and the order counts
    attributes: Float64[np.ndarray, "classes attributes"]  # one row per class
    origin: str  # for messages

    def vectors_for(
        self, classes: Mapping[int, str], count: int
    ) -> Float64[np.ndarray, "_ attributes"]:
        """Return the vectors of ``classes``: positions among all ``count`` classes → names.

        A class without a vector is refused, as is a vector that is zero or not finite.
        """
        names, rows = list(classes.values()), list(classes)
        if self.names:
            places = {name: k for k, name in enumerate(self.names)}
            if missing := [name for name in names if name not in places]:
                raise InputError(
                    f"{self.origin} must have a vector for each class, but has none for "
                    f"{missing[0]!r}{nearest(missing[0], self.names)}"
                )
            rows = [places[name] for name in names]
        elif len(self.attributes) != count:
            raise InputError(
                f"{self.origin} must have {count:,} rows, one for each class, but its shape is "
                f"{self.attributes.shape}; give them in the order of the classes"
            )
        found: np.ndarray = self.attributes[rows]
        bad = ~np.isfinite(found).all(axis=1) | (found == 0).all(axis=1)
        if bad.any():
            raise InputError(
                f"{self.origin} must have vectors that are finite and not all zero, but that of "
                f"{names[int(bad.argmax())]!r} is not; correct it"
            )
        return found


def nearest(name: str, names: Sequence[str]) -> str:
    """Return a hint at the most similar name, or general advice if there is none."""
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else "; use the same class names everywhere"


def read_class_vectors(path: Path, classes: int | None = None) -> ClassVectors:
    """Read vectors of classes from a file.

    - ``.csv`` and ``.json``: names and their numbers, as for new classes.
    - ``.npy``: an array of (classes, dimensions), or its transpose, if the class count shows it.
    - ``.mat``: the matrix ``att``, or another one: ``file.mat:name``.
    """
    path, key = _path_and_key(path)
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"a file of class vectors must end in {', '.join(ENDINGS)}, not {path}")
    if not path.is_file():
        raise InputError(f"class vectors must be in a file, but there is none at {path}")
    if ending in _WITH_NAMES:
        table = read_classes(path)
        name, count = Counter(table.names).most_common(1)[0]
        if count > 1:
            raise InputError(f"{path} must name each class once, but has {name!r} {count} times")
        return table
    key = key or "att"
    matrix = load_numpy(path, key)[key] if ending == ".npy" else read_mat(path, (key,))[0][key].T
    if matrix.ndim != 2 or matrix.dtype.kind not in "iuf" or not matrix.size:
        raise InputError(
            f"{path} must contain a matrix of numbers, but it is {matrix.dtype} of shape "
            f"{matrix.shape}"
        )
    if len(matrix) != classes == matrix.shape[1]:
        matrix = matrix.T
    return ClassVectors((), np.asarray(matrix, np.float64), str(path))


def read_classes(path: Path) -> ClassVectors:
    """Read named classes, with equally many numbers each, from a ``.json`` or ``.csv`` file."""
    if path.suffix.lower() not in _WITH_NAMES:
        raise InputError(
            f"a file of classes must end in {' or '.join(_WITH_NAMES)}, but got {path}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"a file of classes must be readable text, but {path} is not ({error})"
        ) from error
    return (parse_json if path.suffix.lower() == ".json" else _parse_csv)(text, str(path))


def parse_json(text: str, origin: str) -> ClassVectors:
    """Read ``{"name": [numbers], …}``; error messages name its origin."""
    try:
        pairs = json.loads(text, object_pairs_hook=list)
        return _named([(name, vector) for name, vector in pairs], origin)
    except (ValueError, TypeError, RecursionError) as error:
        raise _malformed(origin, str(error)) from error


def _parse_csv(text: str, origin: str) -> ClassVectors:
    """Read lines of a name and its numbers; a first line without numbers is a header."""
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if rows and not any(_is_number(cell) for cell in rows[0][1:]):
        rows = rows[1:]
    try:
        return _named([(name.strip(), list(map(float, cells))) for name, *cells in rows], origin)
    except ValueError as error:
        raise _malformed(origin, str(error)) from error


def _named(pairs: list[tuple[str, Any]], origin: str) -> ClassVectors:
    if not pairs:
        raise _malformed(origin, "it has no class")
    vectors = [np.asarray(vector) for _, vector in pairs]
    for (name, _), vector in zip(pairs, vectors, strict=True):
        if vector.ndim != 1 or vector.dtype.kind not in "iuf" or vector.shape != vectors[0].shape:
            first = pairs[0][0]
            raise _malformed(
                origin, f"{name!r} must have a list of numbers as long as {first!r} has"
            )
    attributes = np.stack(vectors).astype(np.float64)
    return ClassVectors(tuple(name for name, _ in pairs), attributes, origin)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _malformed(origin: str, reason: str) -> InputError:
    return InputError(
        f"classes must be names with equally many numbers each ({_SHAPE}), but {origin} is "
        f"different: {' '.join(reason.split())[:200]}"
    )


@dataclass(frozen=True)
class ClassEmbedding:
    """Vectors that describe classes, in place of a data set's own attributes."""

    files: tuple[str, ...]  # whose vectors are concatenated
    digest: str  # sha256 of the files in their order, hex

    @property
    def backbones(self) -> tuple[BackboneRecord, ...]:
        """The networks that made the files, if `python -m mianet.extract` did."""
        paths = (record_path(_path_and_key(file)[0]) for file in self.files)
        return tuple(record for path in paths if (record := read_backbone(path)))

    @property
    def name(self) -> str:
        """The name it is recorded under: the files' names and the start of the digest."""
        return f"{' + '.join(Path(file).name for file in self.files)} ({self.digest[:12]})"

    def vectors_for(
        self, classes: Mapping[int, str], count: int
    ) -> Float32[np.ndarray, "_ dimensions"]:
        """Return a vector of length 1 for each class; arguments as of ``ClassVectors``.

        Each file's vectors are scaled to length 1 before concatenation, so that all count equally.
        """
        tables = [read_class_vectors(Path(file), count) for file in self.files]
        parts = [unit_length(as_float32(table.vectors_for(classes, count))) for table in tables]
        vectors = unit_length(np.concatenate(parts, axis=1))
        Checks(None, " + ".join(self.files)).attributes(vectors, list(classes.values()))
        return vectors


def open_embedding(files: Sequence[str]) -> ClassEmbedding | None:
    """Return the embedding in some files; None for no files."""
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        path, key = _path_and_key(file)
        digest.update(bytes.fromhex(file_digest(path)))
        digest.update(f"{path.suffix}:{key}|".encode())
    return ClassEmbedding(tuple(files), digest.hexdigest())


def _path_and_key(file: str | Path) -> tuple[Path, str]:
    """Split ``file.mat:name`` into the file and the name of a matrix in it, possibly empty."""
    stem, _, key = str(file).partition(".mat:")
    return (Path(f"{stem}.mat"), key) if key else (Path(file), "")


def load_numpy(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Read arrays; nothing in the file is executed.

    A ``.npz`` file gives those of the names it has; a ``.npy`` file's array gets the first name.
    """
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {names[0]: content}
        with content:
            return {name: content[name] for name in names if name in content}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        message = f"{path} must be an intact {path.suffix} file, but cannot be read ({error})"
        raise InputError(message) from error
