"""Reads features and labels of images from common file formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from mianet.data.class_vectors import load_numpy
from mianet.data.matfiles import read_arrays
from mianet.errors import InputError

FEATURES, LABELS = "features", "labels"
LABEL_COLUMNS = ("labels", "label", "class")
ENDINGS = (".npy", ".npz", ".h5", ".hdf5", ".mat", ".parquet", ".csv")


def read_images(path: Path, key: str = FEATURES) -> tuple[np.ndarray, np.ndarray | None]:
    """Read features (images, features) of images, and their labels or None.

    - ``.npy``: an array of features; no labels.
    - ``.npz``, ``.h5``, ``.mat``: the arrays ``key`` and ``labels``.
    - ``.parquet``, ``.csv``: a column ``labels``, ``label`` or ``class``; the features are the
      column ``key`` of lists, or all other columns, which must be numbers.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"a features file must end in {', '.join(ENDINGS)}, but got {path}")
    if not path.is_file():
        raise InputError(f"features must be in a file, but there is none at {path}")
    if ending in (".parquet", ".csv"):
        table = _read_table(path)
        return _features_of(table, path, key), _labels_of(table, path)
    read = load_numpy if ending in (".npy", ".npz") else read_arrays
    arrays = read(path, key, LABELS)
    if key not in arrays:
        raise InputError(f"{path} must have {key}, but does not; name its array with --key")
    features, labels = _matrix(arrays[key], path, key), arrays.get(LABELS)
    if ending == ".mat" and labels is not None and features.shape[1] == labels.size:
        features = features.T  # as published
    return features, None if labels is None else labels.ravel()


def read_labels(path: Path) -> np.ndarray:
    """Read a label for each image, in the order of the features.

    - ``.npy``: numbers or text.
    - ``.csv``: the column ``labels``, ``label`` or ``class``.
    - ``.txt``: one name per line.
    """
    ending = path.suffix.lower()
    if ending == ".npy":
        return load_numpy(path, LABELS)[LABELS].ravel()
    if ending == ".csv":
        labels = _labels_of(_read_table(path), path)
        if labels is not None:
            return labels
        columns = ", ".join(LABEL_COLUMNS)
        raise InputError(f"{path} must have one of the columns {columns}, but has none; add one")
    return np.array(read_lines(path))


def read_lines(path: Path) -> list[str]:
    """Read the lines of a UTF-8 text file, without trailing blank ones."""
    try:
        return [line.strip() for line in path.read_text("utf-8-sig").rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} must be readable UTF-8 text, but is not ({error})") from error


def table_features(batch: pa.RecordBatch, key: str) -> np.ndarray:
    """Return features (images, features) of a batch: its list column ``key``, or all columns."""
    if key in batch.schema.names and _is_list(batch.schema.field(key).type):
        column = batch.column(key)
        if column.null_count or len(pc.unique(pc.list_value_length(column))) > 1:
            raise InputError("all lists of features must have the same length, without gaps")
        return _numbers(column.flatten()).reshape(len(column), -1)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise InputError(
                f"columns must be numbers, one per feature, but {name} is {column.type}; remove "
                "it, or give the column of lists as the key"
            )
    return np.column_stack([_numbers(column) for column in batch.columns])


def _is_list(kind: pa.DataType) -> bool:
    checks = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(check(kind) for check in checks)


def _numbers(array: pa.Array) -> np.ndarray:
    return np.asarray(array.to_numpy(zero_copy_only=False))  # a missing number becomes NaN


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} must be a table, but cannot be read ({reason})") from error


def _labels_of(table: pa.Table, path: Path) -> np.ndarray | None:
    for name in LABEL_COLUMNS:
        if name in table.column_names:
            if table[name].null_count:
                raise InputError(
                    f"the column {name} of {path} must have a label for each image, but some are "
                    "missing; fill it"
                )
            return np.asarray(table[name].to_numpy())
    return None


def _features_of(table: pa.Table, path: Path, key: str) -> np.ndarray:
    label = [name for name in LABEL_COLUMNS if name in table.column_names][:1]
    try:
        parts = [table_features(part, key) for part in table.drop_columns(label).to_batches()]
        return np.concatenate(parts)
    except (InputError, ValueError) as error:  # no columns, no rows, or parts that differ in width
        raise InputError(f"{path} must have the same features for each image: {error}") from error


def _matrix(array: np.ndarray, path: Path, key: str) -> np.ndarray:
    if array.ndim != 2 or array.dtype.kind not in "iuf" or not array.size:
        raise InputError(
            f"{key} of {path} must be a matrix of numbers (images × features), but is "
            f"{array.dtype} of shape {array.shape}; save it as one"
        )
    return array
