"""Matlab files byte by byte: v5 elements that no writer writes, and odd v7.3 (HDF5) files."""

import struct
import zlib

import h5py
import numpy as np

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
CELL, STRUCT, OBJECT, CHAR, SPARSE, DOUBLE, UINT8, FUNCTION, OPAQUE = 1, 2, 3, 4, 5, 6, 9, 16, 17


def element(kind, content):
    """Return a tag and its content, padded."""
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def variable(name, class_code, shape, content, flags=0):
    """Return a variable; an empty name makes it a cell."""
    return element(
        14,
        element(6, struct.pack("<II", class_code | flags, 0))
        + element(5, struct.pack(f"<{len(shape)}i", *shape))
        + element(1, name.encode())
        + content,
    )


def doubles(name, shape, values):
    return variable(name, DOUBLE, shape, element(9, np.asarray(values, "<f8").tobytes()))


def packed(content):
    """Return a compressed element, as v7 has it."""
    compressed = zlib.compress(content, 9)
    return struct.pack("<II", 15, len(compressed)) + compressed


def nested_cell(name, depth):
    """Return a cell array in a cell array, and so on; one entry each."""
    inner = variable("", CHAR, (1, 3), element(16, b"ant"))
    for level in range(depth):
        inner = variable(name if level == depth - 1 else "", CELL, (1, 1), inner)
    return inner


def write_raw(path, *elements):
    path.write_bytes(HEADER + b"".join(elements))


def change_hdf5(path, name, make):
    """Put what make(file) returns, a dataset's options or nothing, in the place of a variable."""
    with h5py.File(path, "r+") as file:
        del file[name]
        if options := make(file):
            file.create_dataset(name, **options)


def chunk_bomb(file):
    """A chunk of 64 bytes that unpacks to 512 MiB; HDF5 would unpack all of it."""
    bomb = file.create_dataset("features", (8, 8), "u1", chunks=(8, 8), compression="gzip")
    packer = zlib.compressobj(1)
    chunk = b"".join(packer.compress(bytes(2**20)) for _ in range(512)) + packer.flush()
    bomb.id.write_direct_chunk((0, 0), chunk)


def cells_of_themselves(file):
    """A cell array of which every cell is itself: ten to the power of the depth."""
    cells = file.create_dataset("allclasses_names", (10, 1), h5py.ref_dtype)
    cells[:, 0] = [cells.ref] * 10


def lone_surrogate(file):
    """A name that ends in the middle of a letter of two units."""
    text = file.create_dataset("name", data=np.array([[0x61], [0xD83D]], np.uint16))
    text.attrs["MATLAB_class"] = np.bytes_("char")
    file.create_dataset("allclasses_names", (1, 6), h5py.ref_dtype)[0, :] = [text.ref] * 6


def elsewhere(file):
    """A dataset whose numbers are in a file that it names."""
    file.create_dataset("features", (42, 7), "f8", external=[("/etc/passwd", 0, 42 * 7 * 8)])


def virtual(file):
    """A dataset made of another file's."""
    layout = h5py.VirtualLayout((42, 7), "f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "features", (42, 7))
    file.create_virtual_dataset("features", layout)
