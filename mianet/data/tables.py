"""Features and labels of images from the files that people have."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from mianet.data.class_vectors import load_array
from mianet.data.matfiles import read_arrays
from mianet.errors import InputError

FEATURES, LABELS = "features", "labels"
LABEL_COLUMNS = ("labels", "label", "class")
ENDINGS = (".npy", ".npz", ".h5", ".hdf5", ".mat", ".parquet", ".csv")


def read_images(path: Path, key: str = FEATURES) -> tuple[np.ndarray, np.ndarray | None]:
    """Read features of images, and their labels where the file has them.

    - ``.npy``: an array of (images, features); no labels.
    - ``.npz``, ``.h5``, ``.mat``: the arrays ``key`` and ``labels``.
    - ``.parquet``, ``.csv``: a column ``labels``, ``label`` or ``class``; the features are the
      column ``key`` of lists, or all other columns, which must be numbers.

    Args:
        path: The file.
        key: The array or column of the features.

    Returns:
        The features (images, features), and the labels or None.

    Raises:
        InputError: The file cannot be read, or holds something else.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"features must be in {', '.join(ENDINGS)}, but got {path}")
    if not path.is_file():
        raise InputError(f"features must be in a file, but there is none at {path}")
    if ending == ".npy":
        return _matrix(load_array(path), path, key), None
    if ending in (".parquet", ".csv"):
        return _from_table(_read_table(path), path, key)
    arrays = _npz(path, key) if ending == ".npz" else read_arrays(path, (key, LABELS))
    if key not in arrays:
        raise InputError(f"{path} must have {key}, but has not; name its array by --key")
    features, labels = _matrix(arrays[key], path, key), arrays.get(LABELS)
    if ending == ".mat" and labels is not None and features.shape[1] == labels.size:
        features = features.T  # as published
    return features, None if labels is None else labels.ravel()


def read_labels(path: Path) -> np.ndarray:
    """Read a label for each image, in the order of the features.

    - ``.npy``: numbers or text.
    - ``.csv``: the column ``labels``, ``label`` or ``class``.
    - ``.txt``: a name a line.

    Raises:
        InputError: The file cannot be read, or holds something else.
    """
    ending = path.suffix.lower()
    if ending == ".npy":
        return load_array(path).ravel()
    if ending == ".csv":
        labels = _from_table(_read_table(path), path, "", labels_only=True)[1]
        if labels is not None:
            return labels
        raise InputError(f"{path} must have one of the columns {', '.join(LABEL_COLUMNS)}")
    return np.array(read_lines(path))


def read_lines(path: Path) -> list[str]:
    """Read a text file's lines, without blank ones at its end.

    Raises:
        InputError: It cannot be read as UTF-8.
    """
    try:
        return [line.strip() for line in path.read_text("utf-8-sig").rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} must be a readable text file in UTF-8 ({error})") from error


def _npz(path: Path, key: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in (key, LABELS) if name in arrays}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} must be a whole .npz file, but cannot be read ({error})") from (
            error
        )


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} must be a table, but cannot be read ({reason})") from error


def _from_table(
    table: pa.Table, path: Path, key: str, *, labels_only: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    names = table.column_names
    label = next((name for name in LABEL_COLUMNS if name in names), None)
    labels = None if label is None else _no_gaps(table[label], path, label)
    if labels_only:
        return np.empty((0, 0)), labels
    if key in names:
        return _lists(table[key].combine_chunks(), path, key), labels
    columns = [name for name in names if name != label]
    for name in columns:
        kind = table[name].type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise InputError(
                f"columns of {path} must be numbers, one a feature, beside the label, but {name} "
                f"is {kind}; leave it out, or give a column of lists by --key"
            )
    if not columns:
        raise InputError(f"{path} must have a column for each feature, but has none")
    return np.column_stack([table[name].to_numpy() for name in columns]), labels


def _no_gaps(column: pa.ChunkedArray, path: Path, name: str) -> np.ndarray:
    if column.null_count:
        raise InputError(f"the column {name} of {path} must give a label for each image; fill it")
    return np.asarray(column.to_numpy())


def _lists(column: pa.Array, path: Path, key: str) -> np.ndarray:
    kind = column.type
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and not (
        pa.types.is_fixed_size_list(kind)
    ):
        raise InputError(f"the column {key} of {path} must be lists of numbers, but is {kind}")
    if column.null_count or len(pc.unique(pc.list_value_length(column))) != 1:
        raise InputError(f"the lists in {key} of {path} must all be of one length, without gaps")
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), -1)


def _matrix(array: np.ndarray, path: Path, key: str) -> np.ndarray:
    if array.ndim != 2 or array.dtype.kind not in "iuf" or not array.size:
        raise InputError(
            f"{key} of {path} must be a matrix of numbers (images × features), but is "
            f"{array.dtype} of shape {array.shape}; save it as one"
        )
    return array
