"""Reads Matlab files of the format v7.3, which is HDF5: real arrays, text, and cell arrays.

Links, external files and filters that Matlab does not write are not followed, and no size is
believed that the caller's limit does not allow.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np

from mianet.data.matvalues import MAX_CELL_DEPTH, Other, TooLargeError, Value, char_rows

CELL_BYTES = 4096
"""What each array counts beside its numbers, so that a file cannot have endless small ones."""
FILTERS = frozenset({h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32})
"""Others are not Matlab's; some load a library by a name in the file."""


def read_matlab73(path: Path, names: Sequence[str], max_bytes: int) -> dict[str, Value]:
    """Return those of the named variables that the file has.

    Args:
        path: The file.
        names: Which variables; the others are skipped.
        max_bytes: How many bytes the named ones may have together, unpacked.

    Raises:
        TooLargeError: They have more.
        Exception: Almost any, where the file is damaged, cut short or of another kind.
    """
    with h5py.File(path, "r") as file:
        reader = _Reader(file, max_bytes)
        # A link could lead to another file, so only variables of this one are followed.
        return {
            name: reader.value(file[name])
            for name in names
            if isinstance(file.get(name, getlink=True), h5py.HardLink)
        }


_EMPTY: Mapping[bytes, Value] = MappingProxyType({b"char": "", b"cell": ()})


class _Reader:
    """Reads values of one file, as long as they fit a limit together."""

    def __init__(self, file: Any, max_bytes: int) -> None:
        self.file = file
        self.left = max_bytes

    def value(self, item: Any, depth: int = 0) -> Value:
        """Return a variable or cell; matrices are stored transposed, cells as references."""
        if not isinstance(item, h5py.Dataset):
            return Other("a struct, a sparse matrix or an object")
        if item.external or item.is_virtual:
            return Other("kept in another file")
        self._check_size(item)
        kind = item.attrs.get("MATLAB_class", b"")
        is_cell = h5py.check_ref_dtype(item.dtype) is h5py.Reference
        if item.attrs.get("MATLAB_empty", 0):  # its content is a shape
            return _EMPTY.get(kind, np.empty((0, 0)))
        if is_cell:
            return self._cells(item, depth)
        if item.dtype.kind not in "iuf":
            return Other(f"of the type {item.dtype}")
        values = np.asarray(item[()]).T
        if kind != b"char":
            return values
        if values.dtype.kind != "u" or values.ndim != 2:
            raise ValueError(f"text has the type {item.dtype} and the shape {values.shape}")
        return char_rows(values.ravel("F"), len(values))

    def _cells(self, item: Any, depth: int) -> Value:
        if depth == MAX_CELL_DEPTH:
            return Other("nested too deep")
        references = item[()].T.ravel("F")
        return tuple(self.value(self.file[reference], depth + 1) for reference in references)

    def _check_size(self, item: Any) -> None:
        """Take an array off the limit before it is read."""
        self.left -= math.prod(item.shape) * item.dtype.itemsize + CELL_BYTES
        chunk_bytes = math.prod(item.chunks or ()) * item.dtype.itemsize
        if self.left < 0 or chunk_bytes > self.left + CELL_BYTES:
            raise TooLargeError
        filters = _filters(item)
        if unknown := set(filters) - FILTERS:
            raise ValueError(f"it is compressed by the filter {min(unknown)}, which is not used")
        if h5py.h5z.FILTER_DEFLATE in filters:
            _check_chunks(item, filters.index(h5py.h5z.FILTER_DEFLATE), chunk_bytes)


def _filters(item: Any) -> list[int]:
    properties = item.id.get_create_plist()
    return [properties.get_filter(k)[0] for k in range(properties.get_nfilters())]


def _check_chunks(item: Any, deflate: int, chunk_bytes: int) -> None:
    """Check that no chunk unpacks to more than it should: HDF5 would unpack all there is."""
    chunks: list[Any] = []
    item.id.chunk_iter(chunks.append)
    for chunk in chunks:
        if not chunk.filter_mask >> deflate & 1:
            _, content = item.id.read_direct_chunk(chunk.chunk_offset)
            unpacked = zlib.decompressobj().decompress(content, chunk_bytes + 8)
            if len(unpacked) > chunk_bytes + 4:  # with a checksum
                raise TooLargeError
