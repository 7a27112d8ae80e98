"""Whatever a package holds: a valid load, or one clear line; nothing is executed or left behind."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import raw_mat as raw
import scipy.io
from bad_packages import BAD_PACKAGES, IMAGES, SPLITS, TRACE, Mine, changed, hdf5, named, one_more
from tiny_package import TINY, save_hdf5, tiny_variables, write_package

from mianet.data import datasets
from mianet.data.search_data import load_search_data
from mianet.data.test_parts import load_test_parts
from mianet.errors import InputError

pytestmark = pytest.mark.usefixtures("forked_readers")

TESTS = Path(__file__).parent
MEMORY_BYTES = 4 * 2**30
"""Address space of a process that loads bad packages; the libraries alone map more than one GiB."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "DATASETS", {**datasets.DATASETS, "tiny": TINY})
    monkeypatch.setenv("MIANET_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files_below(folder):
    return sorted(path.name for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.filterwarnings("error::RuntimeWarning")  # it would be a second line
@pytest.mark.parametrize(("make", "words"), BAD_PACKAGES.values(), ids=BAD_PACKAGES)
def test_a_bad_package_is_refused_in_one_line(tmp_path, cache, make, words):
    folder = tmp_path / "data" / "TINY"
    make(folder)
    with pytest.raises(InputError, match=words) as refused:
        load_search_data("tiny", tmp_path / "data")
    line = str(refused.value)
    assert line.isprintable()
    assert str(folder) in line
    assert "; " in line  # what to do
    assert set(files_below(cache)) <= {"lock"}


def test_the_whole_corpus_loads_in_little_memory_and_executes_nothing(tmp_path):
    for k, (make, _) in enumerate(BAD_PACKAGES.values()):
        make(tmp_path / "packages" / f"{k:03}" / "TINY")
    done = subprocess.run(
        [sys.executable, TESTS / "load_packages.py", tmp_path / "packages", str(MEMORY_BYTES)],
        env=with_paths(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["outcomes"] == ["InputError"] * len(BAD_PACKAGES), dict(
        zip(BAD_PACKAGES, told["outcomes"], strict=True)
    )
    assert told["executed"] == []
    assert not list(tmp_path.rglob(TRACE))
    assert told["noticed"]  # the hook does see what a pickle does


def with_paths(**changes):
    paths = [str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **changes}


def test_what_is_planted_does_leave_its_trace_where_it_is_executed(tmp_path):
    pickle.loads(pickle.dumps(Mine(tmp_path / TRACE)))  # noqa: S301
    assert (tmp_path / TRACE).exists()


def as_float(variables):
    for name in variables.keys() & {"labels", "trainval_loc", "test_seen_loc", "test_unseen_loc"}:
        variables[name] = variables[name].astype(float)


def transposed(*names):
    def change(variables):
        for name in names:
            variables[name] = variables[name].T

    return change


def beside(variables):
    """What is not read may be anything."""
    variables["image_files"] = np.array([["a", 1.5, {"b": 2}]], dtype=object)
    variables["train_loc"] = np.full((3, 3), np.nan)


def big_endian(folder):
    write_package(folder, *tiny_variables())
    for file, variables in zip((IMAGES, SPLITS), tiny_variables(), strict=True):
        (folder / file).write_bytes(swapped(variables))


def swapped(variables):
    """Return a v5 file of a machine with the other byte order."""

    def element(kind, content):
        return (
            kind.to_bytes(4, "big")
            + len(content).to_bytes(4, "big")
            + content
            + bytes(-len(content) % 8)
        )

    def variable(name, value):
        if value.dtype == object:
            cells = [variable("", np.array(text)) for text in value.ravel("F")]
            code, shape, body = raw.CELL, value.shape, b"".join(cells)
        elif value.dtype.kind == "U":
            code, shape = raw.CHAR, (1, len(str(value)))
            body = element(17, str(value).encode("utf-16-be"))
        else:
            code, shape = raw.DOUBLE, value.shape
            body = element(9, value.astype(">f8").tobytes("F"))
        flags = np.array([code, 0], ">u4").tobytes()
        dims = np.array(shape, ">i4").tobytes()
        head = element(6, flags) + element(5, dims) + element(1, name.encode())
        return element(14, head + body)

    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI"
    return header + b"".join(variable(name, value) for name, value in variables.items())


GOOD_PACKAGES = {
    "whole numbers as doubles": lambda f: (
        changed(IMAGES, as_float)(f),
        changed(SPLITS, as_float)(f),
    ),
    "rows": changed(SPLITS, transposed("trainval_loc", "test_seen_loc")),
    "images × dimensions": changed(IMAGES, transposed("features")),
    "classes × attributes": changed(SPLITS, transposed("att")),
    "v7.3": changed(IMAGES, lambda _: None, save_hdf5),
    "v7.3 images × dimensions": changed(IMAGES, transposed("features"), save_hdf5),
    "v7.3 rows": changed(IMAGES, transposed("labels"), save_hdf5),
    "v7.3 doubles": changed(SPLITS, as_float, save_hdf5),
    "v7.3 compressed": hdf5(
        IMAGES,
        "features",
        lambda _: {
            "data": tiny_variables()[0]["features"].T,
            "chunks": (5, 3),
            "compression": "gzip",
            "shuffle": True,
            "fletcher32": True,
        },
    ),
    "other byte order": big_endian,
    "other variables": changed(SPLITS, beside),
    "a function handle beside": one_more(IMAGES, "", raw.variable("f", raw.FUNCTION, (1, 1), b"")),
}


@pytest.mark.parametrize("make", GOOD_PACKAGES.values(), ids=GOOD_PACKAGES)
def test_an_odd_package_is_read_exactly(tmp_path, make):
    make(tmp_path / "TINY")
    images, splits = tiny_variables()
    rows = splits["trainval_loc"].ravel().astype(int) - 1
    data, test = load_search_data("tiny", tmp_path), load_test_parts("tiny", tmp_path)
    np.testing.assert_array_equal(data.features, images["features"].T[rows].astype(np.float32))
    np.testing.assert_array_equal(data.class_ids[data.labels], images["labels"][rows, 0] - 1)
    np.testing.assert_array_equal(test.class_attributes, splits["att"].T.astype(np.float32))
    assert test.class_names == ("ant", "bee", "cat", "dog", "eel", "fox")


@pytest.mark.parametrize("writer", [scipy.io.savemat, save_hdf5])
def test_names_of_any_script_are_read(tmp_path, writer):
    names = ("ameise", "蜂", "кот", "ñandú", "🐍", "O'Fox; DROP TABLE")
    changed(SPLITS, named(*names), writer)(tmp_path / "TINY")
    assert load_test_parts("tiny", tmp_path).class_names == names


@pytest.mark.parametrize("writer", [scipy.io.savemat, save_hdf5])
def test_rows_of_a_char_matrix_are_names(tmp_path, writer):
    def rows(variables):
        names = ["ant", "honeybee", "cat", "dog", "eel", "fox"]
        if writer is save_hdf5:
            letters = np.array([[ord(c) for c in f"{name:8}"] for name in names], np.uint16)
            variables["allclasses_names"] = letters
        else:
            variables["allclasses_names"] = np.array([f"{name:8}" for name in names])

    folder = tmp_path / "TINY"
    changed(SPLITS, rows, writer)(folder)
    if writer is save_hdf5:
        with h5py.File(folder / SPLITS, "r+") as file:
            file["allclasses_names"].attrs["MATLAB_class"] = np.bytes_("char")
    assert load_test_parts("tiny", tmp_path).class_names[:2] == ("ant", "honeybee")


def test_a_line_stays_one_line_and_ends():
    line = str(InputError("a\nb\r\x1b[2J\u2028\udcff" + "x" * 10_000 + "; do this"))
    assert line.startswith(r"a\nb\r\x1b[2J\u2028\udcff")
    assert line.endswith("; do this")
    assert line.isprintable()
    assert len(line) < 2000
    assert not re.search("[\r\n]", line)
