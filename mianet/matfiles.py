"""Reads variables of Matlab files, both the old format (up to v7) and v7.3, which is HDF5.

Nothing in a file is ever executed: only the wanted variables are read, and only numbers and text
are accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from mianet.errors import InputError

MAX_CELL_DEPTH = 8
"""Cell arrays nested deeper than this hold no class name."""


def read_mat(
    path: Path, numbers: Sequence[str], texts: Sequence[str] = ()
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
    """Read matrices and lists of text from a Matlab file, in Matlab's orientation.

    Args:
        path: The file.
        numbers: Names of variables that are real matrices of numbers.
        texts: Names of variables that are lists of text (cell arrays, maybe nested).

    Returns:
        The matrices, each of two dimensions, and the lists of text, by name.

    Raises:
        InputError: The file is no readable Matlab file, or a variable is missing or of a wrong
            kind.
    """
    read = _read_hdf5 if h5py.is_hdf5(path) else _read_classic
    try:
        values = read(path, (*numbers, *texts))
    except InputError:
        raise
    except Exception as error:  # the readers raise almost anything on a damaged file
        raise InputError(
            f"{path} must be a whole Matlab file, but cannot be read ({type(error).__name__}: "
            f"{error}); it may be damaged or cut short, so copy or download it again"
        ) from error
    for name in (*numbers, *texts):
        if name not in values:
            raise InputError(
                f"{path} must have the variable {name}, but has not; it may be cut short or of "
                "another kind: use the published file"
            )
    return (
        {name: _matrix(values[name], name, path) for name in numbers},
        {name: _text_list(values[name], name, path) for name in texts},
    )


def _read_classic(path: Path, names: Sequence[str]) -> Mapping[str, Any]:
    values: dict[str, Any] = scipy.io.loadmat(
        path,
        variable_names=list(names),
        appendmat=False,
        chars_as_strings=True,
        verify_compressed_data_integrity=True,
    )
    return values


def _read_hdf5(path: Path, names: Sequence[str]) -> Mapping[str, Any]:
    with h5py.File(path, "r") as file:
        values = {}
        for name in names:
            # A link could lead to another file, so only variables of this one are followed.
            if isinstance(file.get(name, getlink=True), h5py.HardLink):
                values[name] = _from_hdf5(file[name], file, name, path)
        return values


def _from_hdf5(item: Any, file: Any, name: str, path: Path, depth: int = 0) -> Any:
    """Return a variable as scipy would: v7.3 stores matrices transposed, cells as references."""
    if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
        raise InputError(f"{name} of {path} must be a plain array or cell array")
    if h5py.check_ref_dtype(item.dtype) is None:
        is_text = item.attrs.get("MATLAB_class", b"") == b"char"
        values = item[()]
        return "".join(map(chr, values.T.ravel("F"))) if is_text else np.asarray(values).T
    if depth == MAX_CELL_DEPTH:
        raise InputError(f"{name} of {path} must be a list, but is nested too deep")
    cells = np.empty(item.size, dtype=object)
    for k, reference in enumerate(item[()].T.ravel("F")):
        cells[k] = _from_hdf5(file[reference], file, name, path, depth + 1)
    return cells


def _matrix(value: Any, name: str, path: Path) -> np.ndarray:
    if not (isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.ndim == 2):
        dtype = getattr(value, "dtype", type(value).__name__)
        shape = getattr(value, "shape", ())
        raise InputError(
            f"{name} of {path} must be a matrix of real numbers, but is {dtype} of shape {shape}"
        )
    if value.size == 0:
        raise InputError(f"{name} of {path} must not be empty, but its shape is {value.shape}")
    return value


def _text_list(value: Any, name: str, path: Path) -> tuple[str, ...]:
    texts = tuple(_texts(value))
    if any(text is None for text in texts):
        raise InputError(f"{name} of {path} must be a list of text, but has something else in it")
    return tuple(text for text in texts if text is not None)


def _texts(value: Any, depth: int = 0) -> Iterator[str | None]:
    """Yield the texts of a list, a char matrix or a cell array, nested or not; None for others."""
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, np.ndarray) and value.dtype.kind in "OU" and depth < MAX_CELL_DEPTH:
        for cell in value.ravel("F"):
            yield from _texts(cell, depth + 1)
    else:
        yield None
