"""Vectors that describe classes, from a table of attributes or from embeddings of their names."""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from mianet.data.extracted import BackboneRecord, read_backbone, record_of
from mianet.data.folders import unit_length
from mianet.data.images import check_attributes
from mianet.data.matfiles import read_mat
from mianet.data.new_classes import read_classes
from mianet.errors import InputError

ENDINGS = (".csv", ".json", ".npy", ".mat")
DEFAULT_KEY = "att"


@dataclass(frozen=True)
class ClassVectors:
    """Vectors of classes.

    Attributes:
        vectors: A row a class.
        names: The classes' names; None where the file has none, and the order counts.
        origin: The file.
    """

    vectors: Float64[np.ndarray, "classes dimensions"]
    names: tuple[str, ...] | None
    origin: Path

    def of(
        self, classes: Sequence[str], rows: Sequence[int], count: int
    ) -> Float64[np.ndarray, "_ dimensions"]:
        """Return the vectors of some classes of a data set.

        Args:
            classes: Their names.
            rows: Their places among all classes of the data set, for a file without names.
            count: How many classes the data set has.

        Raises:
            InputError: A class has no vector, or a vector is not finite.
        """
        if self.names is not None:
            places = {name: k for k, name in enumerate(self.names)}
            rows = [places.get(name, -1) for name in classes]
            for name, row in zip(classes, rows, strict=True):
                if row < 0:
                    raise InputError(
                        f"{self.origin} must have a line for each class, but has none for "
                        f"{name!r}{nearest(name, self.names)}"
                    )
        elif len(self.vectors) != count:
            raise InputError(
                f"{self.origin} must have {count:,} rows, one for each class, but its shape is "
                f"{self.vectors.shape}; give them in the order of the classes"
            )
        found: np.ndarray = self.vectors[np.asarray(rows)]
        bad = ~np.isfinite(found).all(axis=1) | (found == 0).all(axis=1)
        if bad.any():
            raise InputError(
                f"{self.origin} must have numbers that are finite and not all zero, but has not "
                f"for {classes[int(bad.argmax())]!r}; correct that vector"
            )
        return found


def nearest(name: str, names: Sequence[str]) -> str:
    """Return a hint at the most similar name, or how to go on without one."""
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else "; name classes alike everywhere"


def read_class_vectors(path: Path, classes: int | None = None) -> ClassVectors:
    """Read vectors of classes.

    - ``.csv`` and ``.json``: a name and its numbers a line, as for new classes.
    - ``.npy``: an array of (classes, dimensions), or turned.
    - ``.mat``: the matrix ``att``, or another one: ``file.mat:name``.

    Args:
        path: The file.
        classes: How many classes there are, where that is known; says which way a matrix lies.

    Raises:
        InputError: The file cannot be read, or holds something else.
    """
    path, key = _path_and_key(path)
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"vectors of classes must be in {', '.join(ENDINGS)}, but got {path}")
    if not path.is_file():
        raise InputError(f"vectors of classes must be in a file, but there is none at {path}")
    if ending in (".csv", ".json"):
        table = read_classes(path)
        name, count = Counter(table.names).most_common(1)[0]
        if count > 1:
            raise InputError(f"{path} must name each class once, but has {name!r} {count} times")
        return ClassVectors(table.attributes, table.names, path)
    if ending == ".mat":
        matrix = read_mat(path, (key or DEFAULT_KEY,))[0][key or DEFAULT_KEY].T  # as published
    else:
        matrix = load_array(path)
    if matrix.ndim != 2 or matrix.dtype.kind not in "iuf" or not matrix.size:
        raise InputError(f"{path} must hold a matrix of numbers, but it is {_shape(matrix)}")
    if len(matrix) != classes == matrix.shape[1]:
        matrix = matrix.T
    return ClassVectors(np.asarray(matrix, np.float64), None, path)


@dataclass(frozen=True)
class ClassEmbedding:
    """Vectors that describe classes instead of a data set's own attributes.

    Attributes:
        files: Where they are, as ``read_class_vectors`` takes them; several are put side by side.
        digest: sha256 of the files, in hex; another order is another digest.
    """

    files: tuple[str, ...]
    digest: str

    @property
    def backbones(self) -> tuple[BackboneRecord, ...]:
        """The networks that made the files, where `python -m mianet.extract` did.

        Raises:
            InputError: What stands beside a file cannot be read.
        """
        beside = (record_of(_path_and_key(file)[0]) for file in self.files)
        return tuple(record for path in beside if (record := read_backbone(path)))

    @property
    def name(self) -> str:
        """What is recorded of it: the files' names, and the beginning of the digest."""
        return f"{' + '.join(Path(file).name for file in self.files)} ({self.digest[:12]})"

    def of(
        self, classes: Sequence[str], rows: Sequence[int], count: int
    ) -> Float32[np.ndarray, "_ dimensions"]:
        """Return a vector of length 1 for each of some classes, as for ``ClassVectors.of``.

        Each file's vectors have length 1 before they are put side by side, so that all count alike.

        Args:
            classes: Their names.
            rows: Their places among all classes of the data set.
            count: How many classes the data set has.

        Raises:
            InputError: A file cannot be read, lacks a class, or does not tell classes apart.
        """
        tables = [read_class_vectors(Path(file), count) for file in self.files]
        with np.errstate(over="ignore"):  # what becomes infinite is refused below
            parts = [
                unit_length(table.of(classes, rows, count).astype(np.float32)) for table in tables
            ]
        vectors = unit_length(np.concatenate(parts, axis=1))
        check_attributes(vectors, tuple(classes), None, " + ".join(self.files))
        return vectors


def open_embedding(files: Sequence[str]) -> ClassEmbedding | None:
    """Return the embedding that some files hold; None for no files.

    Raises:
        InputError: A file cannot be read.
    """
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        path, key = _path_and_key(file)
        try:
            with path.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        except OSError as error:
            raise InputError(
                f"a class embedding must be in a readable file, but {path} is not "
                f"({error.strerror}); give another"
            ) from error
        digest.update(f"{path.suffix}:{key}|".encode())
    return ClassEmbedding(tuple(files), digest.hexdigest())


def _path_and_key(file: str | Path) -> tuple[Path, str]:
    """Part ``file.mat:name`` into the file and the name of a matrix in it, which may be empty."""
    stem, _, key = str(file).partition(".mat:")
    return (Path(f"{stem}.mat"), key) if key else (Path(file), "")


def load_array(path: Path) -> np.ndarray:
    """Read a ``.npy`` file; nothing in it is executed.

    Raises:
        InputError: It cannot be read.
    """
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} must be a whole .npy file, but cannot be read ({error})") from (
            error
        )
    return array


def _shape(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {array.shape}"
