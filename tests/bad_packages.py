"""The corpus of data packages that must be refused, and of odd ones that must be read.

An entry is name → (how to write the package into a folder, a pattern of the message).
"""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import raw_mat as raw
import scipy.io
import scipy.sparse
from tiny_package import save_hdf5, tiny_variables, write_package

Maker = Callable[[Path], object]
IMAGES, SPLITS = "res101.mat", "att_splits.mat"
TRACE = "executed"
"""File beside the packages that appears if anything in one of them is executed."""


class Mine:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def changed(file, change, writer=None):
    """Write the tiny package after a change of the variables of one of its files."""

    def make(folder):
        variables = dict(zip((IMAGES, SPLITS), tiny_variables(), strict=True))
        change(variables[file])
        write_package(folder, *variables.values(), writer)

    return make


def images(change, writer=None):
    return changed(IMAGES, change, writer)


def splits(change, writer=None):
    return changed(SPLITS, change, writer)


def put(name, place, value):
    def change(variables):
        array = np.array(variables[name], dtype=float)
        array[place] = value
        variables[name] = array

    return change


def drop(name):
    return lambda variables: variables.pop(name)


def replace(name, value):
    return lambda variables: variables.update({name: value})


def cut(name, rows):
    return lambda variables: variables.update({name: variables[name][rows]})


def minus_one(name):
    return lambda variables: variables.update({name: variables[name].astype(float) - 1})


def overlap(variables):
    variables["test_seen_loc"][3] = variables["trainval_loc"][5]


def repeat(variables):
    variables["test_unseen_loc"][3] = variables["test_unseen_loc"][5]


def swap_classes(variables):
    """A trainval image changes places with one of an unseen class."""
    place = variables["trainval_loc"][0].copy()
    variables["trainval_loc"][0] = variables["test_unseen_loc"][0]
    variables["test_unseen_loc"][0] = place


def relabel(part, old, new):
    """Give the images of a class in one part of the split to another class."""

    def change(variables):
        rows = tiny_variables()[1][f"{part}_loc"].ravel().astype(int) - 1
        labels = variables["labels"]
        labels[rows[labels[rows, 0] == old]] = new

    return change


def twins(variables):
    variables["att"][:, 4] = variables["att"][:, 1]


def named(*names):
    def change(variables):
        cells = np.empty((len(names), 1), dtype=object)
        cells[:, 0] = names
        variables["allclasses_names"] = cells

    return change


def hostile_name(variables):
    """A class whose name would break the line and colour the terminal."""
    named("ant", "bee\n\x1b[31m\u202eerror: none", "cat", "dog", "eel", "fox")(variables)
    variables["att"][0, 1] = np.nan


def content(file, make, writer=None):
    """Replace a file by bytes that are made of those it had."""

    def write(folder):
        write_package(folder, *tiny_variables(), writer)
        (folder / file).write_bytes(make((folder / file).read_bytes()))

    return write


def truncated(share, writer=None, file=IMAGES):
    return content(file, lambda whole: whole[: int(share * len(whole))], writer)


def packed_mat(path, variables):
    scipy.io.savemat(path, variables, do_compression=True)


def elements(file, *parts):
    """Replace a file by a Matlab header and elements."""
    return content(file, lambda _: raw.HEADER + b"".join(parts))


def one_more(file, name, *parts):
    """Drop a variable of a file, and append elements."""

    def make(whole):
        variables = dict(zip((IMAGES, SPLITS), tiny_variables(), strict=True))[file]
        stream = io.BytesIO()
        scipy.io.savemat(stream, {k: v for k, v in variables.items() if k != name})
        return stream.getvalue() + b"".join(parts)

    return content(file, make)


def hdf5(file, name, make):
    """Put something else in the place of a variable of a v7.3 file."""

    def write(folder):
        write_package(folder, *tiny_variables(), save_hdf5)
        raw.change_hdf5(folder / file, name, make)

    return write


def hdf5_kept_elsewhere(folder):
    write_package(folder, *tiny_variables(), save_hdf5)
    (folder / IMAGES).rename(folder / "elsewhere.h5")
    with h5py.File(folder / IMAGES, "w") as file:
        for name in ("features", "labels"):
            file[name] = h5py.ExternalLink(str(folder / "elsewhere.h5"), name)


def planted(dump):
    """Replace res101.mat by a file that executes something where it is unpickled."""

    def write(folder):
        write_package(folder, *tiny_variables())
        (folder / IMAGES).write_bytes(dump(Mine(folder.parent / TRACE)))

    return write


def numpy_file(thing):
    stream = io.BytesIO()
    np.save(stream, np.array([thing], dtype=object))
    return stream.getvalue()


def instead(make):
    """Put something that is no file in the place of res101.mat."""

    def write(folder):
        write_package(folder, *tiny_variables())
        (folder / IMAGES).unlink()
        make(folder / IMAGES)

    return write


def of_class(class_code, flags=0):
    body = raw.element(9, bytes(8 * 42))
    return one_more(IMAGES, "labels", raw.variable("labels", class_code, (42, 1), body, flags))


WHOLE = r"must be an intact Matlab file, but cannot be read"
LACKS = r"must have the variable (features|labels), but does not"
HUGE = struct.pack("<II", 14, 2**32 - 8)

BAD_PACKAGES: Mapping[str, tuple[Maker, str]] = {
    # variables that are missing, or of another kind
    "no features": (images(drop("features")), r"must have the variable features, but does not"),
    "no labels": (images(drop("labels")), r"must have the variable labels"),
    "no att": (splits(drop("att")), r"must have the variable att"),
    "no trainval": (splits(drop("trainval_loc")), r"must have the variable trainval_loc"),
    "no test_unseen": (splits(drop("test_unseen_loc")), r"must have the variable test_unseen_loc"),
    "no names": (splits(drop("allclasses_names")), r"must have the variable allclasses_names"),
    "complex": (
        images(replace("features", np.ones((7, 42)) * 1j)),
        r"real numbers, but is complex",
    ),
    "cell": (
        images(replace("features", np.array([[1], ["x"]], dtype=object))),
        r"features of .* must be a matrix of real numbers, but is a list",
    ),
    "text labels": (images(replace("labels", "cat")), r"labels of .* real numbers, but is text"),
    "sparse": (images(replace("features", scipy.sparse.eye(7, 42))), r"but is a sparse matrix"),
    "struct": (images(replace("features", {"a": 1})), r"features of .* but is a struct"),
    "function handle": (of_class(raw.FUNCTION), r"cannot be read .*Expecting matrix"),
    "opaque": (of_class(raw.OPAQUE), r"must have the variable labels"),
    "object": (of_class(raw.OBJECT), r"cannot be read .*Expecting miINT8"),
    "complex flag": (of_class(raw.DOUBLE, 0x800), r"cannot be read .*could not read bytes"),
    "empty": (images(replace("features", np.ones((0, 42)))), r"features of .* must not be empty"),
    "3-D": (images(replace("features", np.ones((7, 42, 2)))), r"features of .* must be a matrix"),
    "twice": (
        one_more(IMAGES, "", raw.doubles("labels", (42, 1), np.ones(42))),
        r"Duplicate variable name .labels.",
    ),
    # labels
    "labels from 0": (
        images(minus_one("labels")),
        r"labels of .* must be between 1 and 6, but go from 0 to 5; count classes from 1",
    ),
    "label 0": (images(put("labels", (0, 0), 0)), r"labels of .* between 1 and 6, but go from 0"),
    "label -1": (images(put("labels", (0, 0), -1)), r"between 1 and 6, but go from -1"),
    "label 7": (images(put("labels", (0, 0), 7)), r"between 1 and 6, but go from 1 to 7"),
    "label 1.5": (images(put("labels", (3, 0), 1.5)), r"whole numbers, but entry 4 is 1.5"),
    "label NaN": (images(put("labels", (3, 0), np.nan)), r"whole numbers, but entry 4 is nan"),
    "label inf": (images(put("labels", (3, 0), np.inf)), r"whole numbers, but entry 4 is inf"),
    "label 1e300": (images(put("labels", (3, 0), 1e300)), r"whole numbers, but entry 4 is 1e\+300"),
    "label -1e300": (images(put("labels", (3, 0), -1e300)), r"numbers, but entry 4 is -1e\+300"),
    "label 2**64-1": (
        images(lambda v: v.update(labels=v["labels"].astype(np.uint64) - 2)),
        r"whole numbers, but entry \d+ is 18446744073709551615",
    ),
    "labels matrix": (images(replace("labels", np.ones((21, 2)))), r"labels .* must be a vector"),
    "fewer labels": (images(cut("labels", slice(40))), r"must be dimensions × 40 images"),
    "fewer images": (
        images(lambda v: v.update(labels=v["labels"][:40], features=v["features"][:, :40])),
        r"Tiny must have 42 images as published, but labels of .* has 40",
    ),
    "a seen class without images": (
        images(lambda v: v["labels"].__setitem__(v["labels"] == 2, 1)),
        r"trainval_loc of .* must have images of 4 seen classes as published, but .* of 3",
    ),
    "an unseen class without images": (
        images(lambda v: v["labels"].__setitem__(v["labels"] == 3, 6)),
        r"test_unseen_loc of .* must have images of 2 unseen classes as published, but .* of 1",
    ),
    "a class that only trainval has": (
        images(relabel("test_seen", 2, 1)),
        r"test_seen_loc of .* must have the classes of trainval_loc, but only .* has bee",
    ),
    "an unseen class in trainval": (
        images(relabel("test_unseen", 3, 1)),
        r"classes of test_unseen_loc .* must not be in trainval_loc, but ant are in both",
    ),
    # features
    "NaN feature": (images(put("features", (2, 4), np.nan)), r"finite .* but 1 images .* image 5"),
    "inf feature": (images(put("features", (2, 4), -np.inf)), r"features of .* must be finite"),
    "too large": (images(put("features", (2, 4), 1e300)), r"must be finite in float32"),
    "too wide": (
        images(replace("features", np.ones((300, 42)))),
        r"must have at most [\d,]+ bytes in features, labels, but has more",
    ),
    # the split
    "overlap": (splits(overlap), r"disjoint .* in trainval_loc and in test_seen_loc; 1 images"),
    "repetition": (splits(repeat), r"in test_unseen_loc and in test_unseen_loc; 1 images"),
    "rows from 0": (splits(minus_one("trainval_loc")), r"(between 1 and 42|must be disjoint)"),
    "row 0": (splits(put("trainval_loc", (0, 0), 0)), r"between 1 and 42, .* from 0"),
    "row 43": (splits(put("test_seen_loc", (0, 0), 43)), r"test_seen_loc of .* 1 and 42, .* to 43"),
    "row 2.5": (splits(put("trainval_loc", (1, 0), 2.5)), r"whole numbers, but entry 2 is 2.5"),
    "row 1e18": (
        splits(put("trainval_loc", (1, 0), 1e18)),
        r"whole numbers, but entry 2 is 1e\+18",
    ),
    "count": (splits(cut("trainval_loc", slice(23))), r"24 trainval images .* has 23"),
    "unseen in trainval": (splits(swap_classes), r"trainval_loc of .* must have images of 4 seen"),
    # classes
    "short att": (splits(cut("att", slice(4))), r"att of .* must be 5 attributes × 6 classes"),
    "NaN att": (splits(put("att", (0, 2), np.nan)), r"att of .* must be finite, .* NaN .* for cat"),
    "inf att": (splits(put("att", (0, 2), np.inf)), r"att of .* must be finite, .* for cat"),
    "zero att": (splits(put("att", (slice(None), 1), 0)), r"length 1 .* of 'bee' has length 0"),
    "raw att": (splits(lambda v: v.update(att=v["original_att"])), r"has length 3; divide each"),
    "endless att": (splits(put("att", (0, 1), 1e38)), r"length 1 .* of 'bee' has length inf"),
    "equal classes": (splits(twins), r"must distinguish classes, but 'bee' and 'eel' have equal"),
    "numbers as names": (splits(replace("allclasses_names", np.ones((6, 1)))), r"a list of text"),
    "a number among names": (splits(named("a", "b", "c", 4.0, "e", "f")), r"a list of text"),
    "five names": (splits(named(*"abcde")), r"must name 6 classes, but names 5"),
    "seven names": (splits(named(*"abcdefg")), r"must name 6 classes, but names 7"),
    "a name twice": (splits(named(*"abcdea")), r"a unique name, but 2 classes are named 'a'"),
    "no name": (splits(named("a", "b", " ", "d", "e", "f")), r"but 1 classes are named ''"),
    "a hostile name": (splits(hostile_name), r"NaN .* for bee\\n\\x1b\[31m\\u202eerror: none; "),
    "names too deep": (
        one_more(SPLITS, "allclasses_names", raw.nested_cell("allclasses_names", 12)),
        r"must be a list of text, but contains something else \(nested too deeply\)",
    ),
    # files of another kind, and nothing that is executed
    "pickle": (planted(pickle.dumps), WHOLE),
    "numpy objects": (planted(numpy_file), WHOLE),
    "a web page": (content(IMAGES, lambda _: b"<html>404 not found</html>" * 50), WHOLE),
    "noise": (content(IMAGES, lambda _: np.random.default_rng(1).bytes(5000)), WHOLE),
    "no bytes": (content(IMAGES, lambda _: b""), WHOLE),
    "v4": (content(IMAGES, lambda _: struct.pack("<5i", 0, 1, 1, 0, 2) + b"a\0" + bytes(8)), LACKS),
    "a folder": (instead(Path.mkdir), r"has no res101\.mat"),
    "a pipe": (instead(os.mkfifo), r"has no res101\.mat"),
    "a link to nowhere": (instead(lambda p: p.symlink_to("/none")), r"has no res101\.mat"),
    "a link to itself": (instead(lambda p: p.symlink_to(p)), r"has no res101\.mat"),
    "an endless device": (instead(lambda p: p.symlink_to("/dev/zero")), r"has no res101\.mat"),
    # damaged v5 to v7
    "only a header": (elements(IMAGES), r"must have the variable features"),
    "v5 cut at 2 %": (truncated(0.02), WHOLE),
    "v5 cut in the middle": (truncated(0.5), rf"{WHOLE} .*could not read bytes"),
    "v5 cut at the end": (truncated(0.98), WHOLE),
    "v7 cut in the middle": (truncated(0.5, packed_mat), WHOLE),
    "splits cut": (truncated(0.7, None, SPLITS), rf"att_splits\.mat {WHOLE}"),
    "v7 checksum": (content(IMAGES, lambda b: b[:-1] + bytes([b[-1] ^ 1]), packed_mat), WHOLE),
    "bytes behind": (content(IMAGES, lambda b: b + b"trailing noise  "), WHOLE),
    "other byte order": (content(IMAGES, lambda b: b[:124] + b"\x01\x00MI" + b[128:]), WHOLE),
    "4 GB that are not there": (content(IMAGES, lambda b: b[:128] + HUGE + b[136:]), LACKS),
    "petabytes": (
        elements(IMAGES, raw.variable("features", raw.DOUBLE, (2**30, 2**30), raw.element(9, b""))),
        rf"{WHOLE} .*size 0 into shape \(1073741824,1073741824\)",
    ),
    "negative shape": (elements(IMAGES, raw.doubles("features", (-7, -42), np.ones(294))), WHOLE),
    "a hundred dimensions": (elements(IMAGES, raw.doubles("features", (1,) * 100, [1])), WHOLE),
    "unknown class": (of_class(99), WHOLE),
    "unknown text": (
        elements(SPLITS, raw.variable("att", raw.CHAR, (1, 3), raw.element(99, b"ant"))),
        WHOLE,
    ),
    "not UTF-8": (
        elements(SPLITS, raw.variable("att", raw.CHAR, (1, 3), raw.element(16, b"\xff\xfe\xfd"))),
        r"must have the variable trainval_loc",
    ),
    "millions of cells": (
        elements(SPLITS, raw.variable("allclasses_names", raw.CELL, (2**30, 1), b"")),
        r"must have at most 16,777,216 bytes",
    ),
    "cells nested 20,000 times": (
        one_more(SPLITS, "allclasses_names", raw.nested_cell("allclasses_names", 20_000)),
        rf"{WHOLE} \(the reader crashed: SIGSEGV\)",
    ),
    "a bomb of zeros": (
        elements(IMAGES, raw.packed(raw.doubles("features", (2**21, 4), np.zeros(2**23)))),
        r"must have at most [\d,]+ bytes",
    ),
    "a bomb of cells": (
        elements(
            SPLITS,
            raw.packed(
                raw.variable(
                    "allclasses_names", raw.CELL, (2**22, 1), struct.pack("<II", 14, 0) * 2**22
                )
            ),
        ),
        r"att_splits\.mat must have at most 16,777,216 bytes",
    ),
    # damaged or odd v7.3
    "v7.3 cut at the start": (truncated(0.02, save_hdf5), WHOLE),
    "v7.3 cut in the middle": (truncated(0.5, save_hdf5), WHOLE),
    "v7.3 cut at the end": (truncated(0.99, save_hdf5), WHOLE),
    "v7.3 overwritten": (
        content(IMAGES, lambda b: b[:600] + bytes(800) + b[1400:], save_hdf5),
        r"(must be an intact Matlab file|must have the variable)",
    ),
    "v7.3 no labels": (images(drop("labels"), save_hdf5), r"must have the variable labels"),
    "v7.3 NaN": (images(put("features", (2, 4), np.nan), save_hdf5), r"image 5"),
    "v7.3 labels from 0": (images(minus_one("labels"), save_hdf5), r"go from 0 to 5"),
    "v7.3 links to another file": (hdf5_kept_elsewhere, r"must have the variable features"),
    "v7.3 numbers of another file": (hdf5(IMAGES, "features", raw.elsewhere), r"in another file"),
    "v7.3 made of another file": (hdf5(IMAGES, "features", raw.virtual), r"in another file"),
    "v7.3 soft link": (
        hdf5(IMAGES, "features", lambda f: f.__setitem__("features", h5py.SoftLink("/features"))),
        r"must have the variable features",
    ),
    "v7.3 struct": (
        hdf5(IMAGES, "features", lambda f: f.create_group("features") and None),
        r"features of .* but is a struct",
    ),
    "v7.3 complex": (
        hdf5(IMAGES, "features", lambda _: {"data": np.ones((42, 7), complex)}),
        r"features of .* but is of the type complex",
    ),
    "v7.3 strings": (
        hdf5(SPLITS, "allclasses_names", lambda _: {"data": [["ant"]] * 6}),
        r"a list of text, but contains something else \(of the type object\)",
    ),
    "v7.3 petabytes": (
        hdf5(
            IMAGES,
            "features",
            lambda _: {"shape": (2**40, 2**30), "dtype": "f8", "chunks": (8, 8)},
        ),
        r"must have at most [\d,]+ bytes",
    ),
    "v7.3 terabyte chunk": (
        hdf5(
            IMAGES,
            "features",
            lambda _: {
                "shape": (42, 7),
                "maxshape": (None, None),
                "dtype": "f8",
                "chunks": (2**14, 2**14),
            },
        ),
        r"must have at most [\d,]+ bytes",
    ),
    "v7.3 bomb of a chunk": (
        hdf5(IMAGES, "features", raw.chunk_bomb),
        rf"(must have at most|{WHOLE})",
    ),
    "v7.3 foreign filter": (
        hdf5(IMAGES, "features", lambda _: {"data": np.ones((42, 7)), "compression": "lzf"}),
        rf"{WHOLE} .*compressed with filter 32000",
    ),
    "v7.3 cells of themselves": (
        hdf5(SPLITS, "allclasses_names", raw.cells_of_themselves),
        r"att_splits\.mat must have at most 16,777,216 bytes",
    ),
    "v7.3 null cells": (
        hdf5(SPLITS, "allclasses_names", lambda _: {"shape": (1, 6), "dtype": h5py.ref_dtype}),
        rf"att_splits\.mat {WHOLE}",
    ),
    "v7.3 half a letter": (hdf5(SPLITS, "allclasses_names", raw.lone_surrogate), WHOLE),
}
