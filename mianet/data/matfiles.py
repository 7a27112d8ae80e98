"""Reads variables of Matlab files, both the older formats (v5 to v7) and v7.3, which is HDF5.

Nothing in a file is ever executed: only the wanted variables are read, and only numbers and text
are accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from mianet.data.matlab5 import read_matlab5
from mianet.data.matlab73 import read_matlab73
from mianet.data.matvalues import TooLargeError, Value, describe
from mianet.errors import InputError

MAX_BYTES = 4 * 2**30
"""Twice what Matlab lets a variable of a v7 file have."""


def read_mat(
    path: Path, numbers: Sequence[str], texts: Sequence[str] = (), *, max_bytes: int = MAX_BYTES
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
    """Read matrices and lists of text from a Matlab file, in Matlab's orientation.

    Args:
        path: The file.
        numbers: Names of variables that are real matrices of numbers.
        texts: Names of variables that are lists of text (cell arrays, maybe nested).
        max_bytes: How many bytes all of them may have together, unpacked; more is not read.

    Returns:
        The matrices, each of two dimensions, and the lists of text, by name.

    Raises:
        InputError: The file is no readable Matlab file, or a variable is missing, too large or of
            a wrong kind.
    """
    values = _read(path, (*numbers, *texts), max_bytes)
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


def has_variable(path: Path, name: str) -> bool:
    """Say whether a Matlab file has a variable.

    Raises:
        InputError: The file is no readable Matlab file.
    """
    return name in _read(path, (name,), MAX_BYTES)


def _read(path: Path, names: Sequence[str], max_bytes: int) -> dict[str, Value]:
    try:
        read = read_matlab73 if h5py.is_hdf5(path) else read_matlab5
        return read(path, names, max_bytes)
    except TooLargeError as error:
        raise InputError(
            f"{path} must have {max_bytes:,} bytes at most in {', '.join(names)}, but has more; use"
            " the published file"
        ) from error
    except MemoryError as error:
        raise InputError(
            f"{path} must fit into memory, but does not; free some or use a larger machine"
        ) from error
    except Exception as error:  # HDF5's reader raises almost anything on a damaged file
        raise InputError(
            f"{path} must be a whole Matlab file, but cannot be read ({type(error).__name__}: "
            f"{error}); it may be damaged or cut short, so copy or download it again"
        ) from error


def _matrix(value: Value, name: str, path: Path) -> np.ndarray:
    if not (isinstance(value, np.ndarray) and value.ndim == 2):
        raise InputError(
            f"{name} of {path} must be a matrix of real numbers, but is {describe(value)}; use the "
            "published file"
        )
    if value.size == 0:
        raise InputError(
            f"{name} of {path} must not be empty, but its shape is {value.shape}; use the published"
            " file"
        )
    return value


def _text_list(value: Value, name: str, path: Path) -> tuple[str, ...]:
    texts = []
    for text in _texts(value):
        if not isinstance(text, str):
            raise InputError(
                f"{name} of {path} must be a list of text, but has something else in it "
                f"({describe(text)}); save it as a cell array of char vectors"
            )
        texts.append(text.strip())
    return tuple(texts)


def _texts(value: Value) -> Iterator[Value]:
    """Yield what is in a text or a list, nested or not."""
    if isinstance(value, tuple):
        for entry in value:
            yield from _texts(entry)
    else:
        yield value
