"""Reads variables of a Matlab file in a separate process: ``python matlab_child.py REQUEST``.

``mianet.data.matfiles`` starts it, and explains why. It limits its own memory and time, and imports
nothing from the project, so that it starts quickly. Nothing in a file is ever executed.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import h5py
import numpy as np
import scipy.io
import scipy.sparse
from scipy.io.matlab import MatlabFunction, MatlabObject, MatlabOpaque

MAX_DEPTH = 8  # cell arrays nested deeper than this are not class names
CELL_BYTES = 4096
"""What each array of a v7.3 file counts in addition to its numbers, to bound many small ones."""
SPARE_BYTES = 256 * 2**20  # the readers' memory on top of twice the numbers read
FILTERS = frozenset({h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32})
"""Matlab writes no others; some others load a library that the file names."""
Item = tuple[dict[str, Any], np.ndarray | None]
"""A line of the answer, and the array that follows it."""


class TooLargeError(ValueError):
    """The wanted variables need more memory than the request allows."""


def main() -> None:
    """Answer the request on the command line."""
    request = json.loads(sys.argv[1])
    _limit(2 * request["max_bytes"] + SPARE_BYTES, request["seconds"])
    try:
        for head, array in answer(request):
            _write(sys.stdout.buffer, head, array)
        end: dict[str, Any] = {"end": True}
    except (TooLargeError, MemoryError):
        end = {"error": "too large"}
    except Exception as error:  # the readers raise almost anything on a damaged file
        end = {"error": f"{type(error).__name__}: {error}"}
    _write(sys.stdout.buffer, end, None)


def answer(request: Mapping[str, Any]) -> Iterator[Item]:
    """Yield the items of the answer to a request, except the last: ``end`` or ``error``.

    An item is a line of JSON, followed by the bytes of an array if it has a ``dtype``. A name that
    the file lacks gets no item; for what is neither numbers nor text, only the kind is sent. The
    ``names`` in the file at ``path`` may have ``max_bytes`` in total. With ``rows``, a matrix is
    sent in blocks of ``rows["chunk"]`` rows of ``rows["width"]`` entries.

    Raises:
        TooLargeError: The variables have more bytes.
        Exception: Almost any, if the file is damaged, truncated or of another kind.
    """
    path, names, left = Path(request["path"]), request["names"], request["max_bytes"]
    warnings.simplefilter("error")  # scipy only warns of variables that cannot be read
    if not h5py.is_hdf5(path):
        for head, array in _matlab5(path, names, left):
            if request["rows"] and array is not None and array.ndim == 2:
                yield from _in_rows(head["name"], array.T, **request["rows"])
            else:
                yield head, array
        return
    with h5py.File(path, "r") as file:
        links = {name: file.get(name, getlink=True) for name in names}  # may lead to other files
        found = [name for name, link in links.items() if isinstance(link, h5py.HardLink)]
        reader = _Matlab73(file, left)
        for name in found:
            if request["rows"]:
                yield from _matlab73_rows(name, file[name], **request["rows"])
            else:
                yield _item(name, reader.value(file[name]))


def _limit(memory_bytes: int, seconds: int) -> None:
    """Limit this process's additional memory and its processor time."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    for kind, wanted in (
        (resource.RLIMIT_AS, pages * resource.getpagesize() + memory_bytes),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (limit, hard))


def _write(stream: BinaryIO, head: Mapping[str, Any], array: np.ndarray | None) -> None:
    stream.write(json.dumps(head).encode() + b"\n")
    if array is not None:
        stream.write(array.ravel(order="K").view(np.uint8).data)
    stream.flush()


def _item(name: str, value: Any) -> Item:
    """Return what is sent for a value: numbers, the texts in it, or only its kind."""
    if isinstance(value, np.ndarray):
        order: Literal["F", "C"] = "F" if value.flags.f_contiguous else "C"
        head = {"name": name, "dtype": value.dtype.str, "shape": value.shape, "order": order}
        return head, np.asarray(value, order=order)
    if isinstance(value, _Other):
        return {"name": name, "kind": str(value)}, None
    kind = "text" if isinstance(value, str) else "a list"
    texts = list(_texts(value))
    other = next((text for text in texts if isinstance(text, _Other)), None)
    return {"name": name, "kind": kind, "texts": texts, "other": other}, None


class _Other(str):
    """Describes a value that is neither real numbers nor text."""

    __slots__ = ()


def _texts(value: Any) -> Iterator[str]:
    """Yield the contents of a text or a cell array, nested or not."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, np.ndarray):
        yield _Other(f"{value.dtype} of shape {value.shape}")
    else:
        for entry in value:
            yield from _texts(entry)


def _matlab5(path: Path, names: list[str], max_bytes: int) -> Iterator[Item]:
    """Yield the variables of a v5 to v7 file, which scipy reads."""
    # Scipy stops once it has all names: one that no variable has makes it read the whole file.
    values = scipy.io.loadmat(path, variable_names=[*names, ""])
    for name in names:
        if name in values:
            value = _matlab5_value(values.pop(name))
            max_bytes -= value.nbytes if isinstance(value, np.ndarray) else 0
            if max_bytes < 0:
                raise TooLargeError
            yield _item(name, value)


def _matlab5_value(value: Any, depth: int = 0) -> Any:
    """Return a value from scipy as numbers, a text, a list of values, or a description."""
    if isinstance(value, scipy.sparse.sparray | scipy.sparse.spmatrix):
        return _Other("a sparse matrix")
    if isinstance(value, MatlabFunction):
        return _Other("a function handle")
    if isinstance(value, MatlabObject | MatlabOpaque) or not isinstance(value, np.ndarray):
        return _Other("an object")
    if value.dtype.kind == "U":
        rows = value.ravel().tolist() or [""]
        return rows[0] if len(rows) == 1 else rows
    if value.dtype.kind == "O":
        if depth > MAX_DEPTH:
            return _Other("nested too deeply")
        return [_matlab5_value(entry, depth + 1) for entry in value.ravel("F")]
    unread = {"V": "a struct", "c": "complex"}
    return _Other(unread[value.dtype.kind]) if value.dtype.kind in unread else value


def _in_rows(name: str, columns: Any, width: int, chunk: int) -> Iterator[Item]:
    """Send a matrix in blocks of rows, from its columns; a v7.3 file is not read whole.

    Images are columns, as the field publishes them, or rows if the width fits only that way.
    """
    is_transposed = columns.shape[0] == width != columns.shape[1]
    for start in range(0, columns.shape[1 if is_transposed else 0], chunk):
        rows = slice(start, start + chunk)
        block = columns[:, rows].T if is_transposed else columns[rows]
        yield _item(name, np.ascontiguousarray(block))


def _matlab73_rows(name: str, item: Any, width: int, chunk: int) -> Iterator[Item]:
    """Send a matrix of a v7.3 file in blocks; the file stores Matlab's columns as rows."""
    other = _unread_kind(item)
    if not other and item.ndim != 2:
        other = _Other(f"{item.dtype} of shape {item.shape}")
    if other:
        yield _item(name, other)
    else:
        _check_filters(item)
        yield from _in_rows(name, item, width, chunk)


def _unread_kind(item: Any) -> _Other | None:
    """Return what an item of a v7.3 file is, if it is not an array in this file."""
    if not isinstance(item, h5py.Dataset):
        return _Other("a struct, a sparse matrix or an object")
    if item.external or item.is_virtual:
        return _Other("kept in another file")
    is_cell = h5py.check_ref_dtype(item.dtype) is h5py.Reference
    return None if is_cell or item.dtype.kind in "iuf" else _Other(f"of the type {item.dtype}")


def _check_filters(item: Any) -> None:
    properties = item.id.get_create_plist()
    filters = {properties.get_filter(k)[0] for k in range(properties.get_nfilters())}
    if unknown := filters - FILTERS:
        raise ValueError(f"it is compressed with filter {min(unknown)}, which Matlab does not use")


class _Matlab73:
    """Reads values of one v7.3 file, up to a limit on their total size."""

    def __init__(self, file: Any, max_bytes: int) -> None:
        self.file = file
        self.left = max_bytes

    def value(self, item: Any, depth: int = 0) -> Any:
        """Return a variable or cell; matrices are stored transposed, cells as references."""
        if other := _unread_kind(item):
            return other
        self.left -= math.prod(item.shape) * item.dtype.itemsize + CELL_BYTES
        if self.left < 0 or math.prod(item.chunks or ()) * item.dtype.itemsize > self.left + 2**20:
            raise TooLargeError
        _check_filters(item)
        kind = item.attrs.get("MATLAB_class", b"")
        if item.attrs.get("MATLAB_empty", 0):  # its content is a shape
            return {b"char": "", b"cell": []}.get(kind, np.empty((0, 0)))
        if item.dtype.kind == "O":
            if depth == MAX_DEPTH:
                return _Other("nested too deeply")
            references = item[()].T.ravel("F")
            return [self.value(self.file[reference], depth + 1) for reference in references]
        values = np.asarray(item[()]).T
        return _char_rows(values) if kind == b"char" else values


def _char_rows(units: np.ndarray) -> str | list[str]:
    """Return the text of UTF-16 code units; for several rows, a list."""
    if units.dtype.kind != "u" or units.ndim != 2:
        raise ValueError(f"text has the type {units.dtype} and the shape {units.shape}")
    lines = [line.astype("<u2").tobytes().decode("utf-16-le") for line in units]
    return lines[0] if len(lines) == 1 else lines


if __name__ == "__main__":
    main()
