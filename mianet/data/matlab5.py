"""Reads Matlab files of the formats v5 to v7: real arrays, text, and cell arrays of them.

The layout is MathWorks' "MAT-File Format". No size in a file is believed before it is checked
against what is there: on a damaged file, scipy's reader can end the whole process (a cell array
nested some thousand times overflows its stack), and its memory has no bound.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import numpy as np

from mianet.data.matvalues import MAX_CELL_DEPTH, Other, TooLargeError, Value, char_rows

HEADER_BYTES = 128
TAG_BYTES = 8
PEEK_BYTES = 1024
"""Holds the beginning of a variable up to its name, which Matlab limits to 63 letters."""
MAX_DIMENSIONS = 32

MATRIX, COMPRESSED = 14, 15
NUMBER_TYPES: Mapping[int, str] = MappingProxyType(
    {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
)
"""Code of an element's type → numpy's."""
TEXT_CODECS: Mapping[int, str] = MappingProxyType({16: "utf-8", 17: "utf-16", 18: "utf-32"})

CELL, CHAR = 1, 4
NUMBER_CLASSES = range(6, 16)
OTHER_CLASSES: Mapping[int, str] = MappingProxyType(
    {2: "a struct", 3: "an object", 5: "a sparse matrix", 16: "a function handle", 17: "an object"}
)
COMPLEX_FLAG = 0x0800


def read_matlab5(path: Path, names: Sequence[str], max_bytes: int) -> dict[str, Value]:
    """Return those of the named variables that the file has.

    Args:
        path: The file.
        names: Which variables; the others are skipped.
        max_bytes: How many bytes the named ones may have together, unpacked.

    Raises:
        TooLargeError: They have more.
        ValueError, zlib.error, OSError: The file is damaged, cut short or of another kind.
    """
    values: dict[str, Value] = {}
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        order = _byte_order(file.read(HEADER_BYTES))
        place = HEADER_BYTES
        while place < size:
            kind, length = struct.unpack(f"{order}II", _exactly(file, TAG_BYTES))
            place += TAG_BYTES + length
            if place > size:
                raise ValueError(f"it ends {place - size:,} bytes early")
            name = _peek_name(file, kind, length, order)
            if name in names:
                if name in values:
                    raise ValueError(f"it has the variable {name} twice")
                content = _unpacked(_exactly(file, length), kind, max_bytes, order)
                max_bytes -= len(content)
                values[name] = _variable(content, order)[1]
            file.seek(place)
    return values


def _byte_order(header: bytes) -> str:
    orders = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
    order = orders.get(header[HEADER_BYTES - 4 : HEADER_BYTES])
    if order is None:
        raise ValueError("it does not begin as Matlab files of v5 to v7.3 do")
    return order


def _exactly(file: BinaryIO, length: int) -> bytes:
    content = file.read(length)
    if len(content) < length:
        raise ValueError("it ends early")
    return content


def _peek_name(file: BinaryIO, kind: int, length: int, order: str) -> str:
    """Return the name of the variable that begins here; the file stays where it is."""
    start = file.tell()
    content = file.read(min(length, PEEK_BYTES))
    file.seek(start)
    if kind == COMPRESSED:
        content = zlib.decompressobj().decompress(content, PEEK_BYTES)[TAG_BYTES:]
    elif kind != MATRIX:
        raise ValueError(f"it has an element of type {kind} where a variable must be")
    if not content:
        return ""
    elements = _Elements(memoryview(content), order)
    elements.take()  # flags
    elements.take()  # dimensions
    return _name(elements.take()[1])


def _unpacked(content: bytes, kind: int, max_bytes: int, order: str) -> memoryview:
    """Return a variable's bytes behind its tag."""
    if kind == MATRIX:
        if len(content) > max_bytes:
            raise TooLargeError
        return memoryview(content)
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(content, max_bytes + 1)
    if len(unpacked) > max_bytes:
        raise TooLargeError
    if not unpacker.eof:
        raise ValueError("a compressed variable ends early")
    inner, body = _Elements(memoryview(unpacked), order).take()
    if inner != MATRIX:
        raise ValueError(f"a compressed element has type {inner}")
    return body


class _Elements:
    """Takes elements off a buffer, one after another."""

    def __init__(self, content: memoryview, order: str) -> None:
        self.content = content
        self.order = order
        self.place = 0

    @property
    def left(self) -> int:
        """Number of bytes that are not taken yet."""
        return len(self.content) - self.place

    def take(self) -> tuple[int, memoryview]:
        """Return the type and the bytes of the next element."""
        if self.left < TAG_BYTES:
            raise ValueError("a variable ends early")
        kind, length = struct.unpack_from(f"{self.order}II", self.content, self.place)
        start = self.place + TAG_BYTES
        if kind >> 16:  # at most four bytes, kept in the tag itself
            kind, length, start = kind & 0xFFFF, kind >> 16, self.place + 4
            end = start + 4
        else:
            end = start + length + -length % 8
        if length > min(end, len(self.content)) - start:
            raise ValueError("an element is longer than what it is in")
        self.place = min(end, len(self.content))
        return kind, self.content[start : start + length]


def _variable(content: memoryview, order: str, depth: int = 0) -> tuple[str, Value]:
    """Return the name and the value of a variable or cell."""
    if not len(content):  # how an empty cell is written
        return "", np.empty((0, 0))
    elements = _Elements(content, order)
    flags = int(_integers(elements, "u4", 2)[0])
    shape = _shape(elements)
    name = _name(elements.take()[1])
    return name, _value(elements, flags, shape, depth)


def _value(elements: _Elements, flags: int, shape: tuple[int, ...], depth: int) -> Value:
    class_code = flags & 0xFF
    if flags & COMPLEX_FLAG:
        return Other("complex")
    if class_code in NUMBER_CLASSES:
        return _array(elements, shape)
    if class_code == CHAR:
        return _text(elements, shape)
    if class_code == CELL:
        return _cells(elements, math.prod(shape), depth)
    if class_code in OTHER_CLASSES:
        return Other(OTHER_CLASSES[class_code])
    raise ValueError(f"a variable has the unknown class {class_code}")


def _shape(elements: _Elements) -> tuple[int, ...]:
    shape = tuple(int(length) for length in _integers(elements, "i4"))
    if not 2 <= len(shape) <= MAX_DIMENSIONS or min(shape) < 0:
        raise ValueError(f"a variable has the shape {shape[:MAX_DIMENSIONS]}")
    return shape


def _array(elements: _Elements, shape: tuple[int, ...]) -> np.ndarray:
    kind, content = elements.take()
    if kind not in NUMBER_TYPES:
        raise ValueError(f"numbers have the unknown type {kind}")
    values = np.frombuffer(content, f"{elements.order}{NUMBER_TYPES[kind]}")
    if len(values) != math.prod(shape):
        raise ValueError(f"an array of shape {shape} has {len(values):,} entries")
    return values.reshape(shape, order="F")


def _text(elements: _Elements, shape: tuple[int, ...]) -> Value:
    kind, content = elements.take()
    if kind in TEXT_CODECS:
        endian = {"<": "-le", ">": "-be"}[elements.order] if kind != 16 else ""
        text = bytes(content).decode(TEXT_CODECS[kind] + endian)
        if shape[0] <= 1:
            return text
        units = np.frombuffer(text.encode("utf-16-le"), "<u2")
    elif NUMBER_TYPES.get(kind) in ("i1", "u1", "u2"):
        units = np.frombuffer(content, f"{elements.order}{NUMBER_TYPES[kind]}")
    else:
        raise ValueError(f"text has the unknown type {kind}")
    if len(units) != math.prod(shape):
        raise ValueError(f"text of shape {shape} has {len(units):,} letters")
    return char_rows(units, shape[0])


def _cells(elements: _Elements, count: int, depth: int) -> Value:
    if depth == MAX_CELL_DEPTH:
        return Other("nested too deep")
    if count * TAG_BYTES > elements.left:
        raise ValueError(f"a cell array of {count:,} cells ends early")
    cells = []
    for _ in range(count):
        kind, content = elements.take()
        if kind != MATRIX:
            raise ValueError(f"a cell has the type {kind}")
        cells.append(_variable(content, elements.order, depth + 1)[1])
    return tuple(cells)


def _integers(elements: _Elements, dtype: str, count: int | None = None) -> np.ndarray:
    kind, content = elements.take()
    if NUMBER_TYPES.get(kind, "").lower() not in (dtype, "u4", "i4"):
        raise ValueError(f"the beginning of a variable has the type {kind}")
    values = np.frombuffer(content, elements.order + dtype)
    if count not in (None, len(values)):
        raise ValueError("the beginning of a variable has another length")
    return values


def _name(content: memoryview) -> str:
    return bytes(content).decode("latin-1")
