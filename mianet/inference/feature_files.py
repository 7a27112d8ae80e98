"""Features of images from a user's file, a chunk at a time: Matlab, NumPy or Parquet.

Nothing in a file is executed: NumPy's pickled objects and links of HDF5 to other files are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float32

from mianet.data.matfiles import read_rows
from mianet.data.tables import table_features
from mianet.errors import InputError
from mianet.inference.prediction import checked_features

IMAGES_PER_CHUNK = 8192
DEFAULT_KEY = "features"

_LARGEST_MATLAB_MATRIX = 2**31
"""Format limit, in bytes, of a matrix in a file of versions 5 to 7; larger ones use 7.3."""


def read_features(
    path: Path, feature_dim: int, *, key: str = DEFAULT_KEY, chunk: int = IMAGES_PER_CHUNK
) -> Iterator[Float32[np.ndarray, "images features"]]:
    """Yield the features of a file's images, in order, a chunk at a time.

    - ``.mat``: the matrix ``key``, images as columns as the field publishes them, or as rows if the
      width fits only that way. Files of Matlab v7.3 are read a chunk at a time, older ones whole.
    - ``.npy``: an array of (images, features), memory-mapped.
    - ``.parquet``: the list column ``key``, or else a column of numbers for each feature.

    Args:
        path: The file.
        feature_dim: The width that the features must have.
        key: The variable or column that holds them.
        chunk: Maximum images per chunk.

    Raises:
        InputError: The file cannot be read, or its features are refused by
            ``mianet.inference.prediction.checked_features``.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"a features file must end in {', '.join(_READERS)}, but got {path}")
    if not path.is_file():
        raise InputError(f"the features must be in a file, but there is none at {path}")
    first = 0
    try:
        for features in reader(path, feature_dim, key, chunk):
            yield checked_features(features, feature_dim, first_image=first)
            first += len(features)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # the readers raise almost anything on a damaged file
        raise InputError(
            f"{path} must be an intact {path.suffix} file, but cannot be read "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from error
    if not first:
        raise InputError(f"{path}: features must be of at least one image, but got none")


def _mat(path: Path, feature_dim: int, key: str, chunk: int) -> Iterator[np.ndarray]:
    path.open("rb").close()  # a file that cannot be opened is not a damaged one
    return read_rows(path, key, feature_dim, chunk, max_bytes=_LARGEST_MATLAB_MATRIX)


def _npy(path: Path, _: int, __: str, chunk: int) -> Iterator[np.ndarray]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 2:
        yield array  # refused, with its shape
    else:
        yield from (array[start : start + chunk] for start in range(0, len(array), chunk))


def _parquet(path: Path, _: int, key: str, chunk: int) -> Iterator[np.ndarray]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=chunk):
            yield table_features(batch, key)


_READERS: Mapping[str, Callable[[Path, int, str, int], Iterator[np.ndarray]]] = {
    ".mat": _mat,
    ".npy": _npy,
    ".parquet": _parquet,
}
