"""The process that reads Matlab files, and what becomes of one that dies, hangs or is misled."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import raw_mat as raw
import scipy.io
from tiny_package import save_hdf5

from mianet.data import matfiles
from mianet.data.matfiles import read_mat, read_rows
from mianet.errors import InputError

MATRIX = np.arange(28.0).reshape(4, 7)


@pytest.mark.parametrize("writer", [scipy.io.savemat, save_hdf5])
def test_rows_come_in_blocks_whichever_way_they_lie(tmp_path, writer):
    for turned in (MATRIX, MATRIX.T):
        writer(tmp_path / "x.mat", {"features": turned})
        blocks = list(read_rows(tmp_path / "x.mat", "features", 4, 3))
        assert [len(block) for block in blocks] == [3, 3, 1]
        np.testing.assert_array_equal(np.concatenate(blocks), MATRIX.T)


def test_an_optional_text_may_be_missing(tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", {"features": MATRIX})
    names = ("image_files",)
    assert read_mat(tmp_path / "x.mat", texts=names, optional=names) == ({}, {})


def test_a_file_that_crashes_the_reader_is_one_line(tmp_path):
    raw.write_raw(tmp_path / "x.mat", raw.nested_cell("names", 20_000))
    with pytest.raises(InputError, match=r"cannot be read \(the reader crashed: SIGSEGV\)"):
        read_mat(tmp_path / "x.mat", [], ["names"])


def test_a_reader_that_hangs_is_ended(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "x.mat")  # opening it waits for somebody who writes
    monkeypatch.setattr(matfiles, "SECONDS", 1)
    monkeypatch.setattr(matfiles, "PATIENCE", 1)
    with pytest.raises(InputError, match=r"reading took more than 1 s or ran out of memory"):
        read_mat(tmp_path / "x.mat", ["x"], max_bytes=1000)


def test_a_reader_that_takes_memory_is_ended(tmp_path):
    zeros = raw.packed(raw.doubles("x", (2**26, 1), np.zeros(2**26)))  # 512 MiB in 512 kB
    raw.write_raw(tmp_path / "x.mat", zeros)
    with pytest.raises(InputError, match=r"must have at most 1,000 bytes in x, but has more"):
        read_mat(tmp_path / "x.mat", ["x"], max_bytes=1000)


def test_modules_of_the_current_folder_are_not_imported(tmp_path, monkeypatch):
    scipy.io.savemat(tmp_path / "x.mat", {"x": MATRIX})
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(read_mat(tmp_path / "x.mat", ["x"])[0]["x"], MATRIX)


def test_a_caller_that_leaves_early_ends_the_reader(tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", {"features": np.zeros((4, 200_000))})
    before = children()
    blocks = read_rows(tmp_path / "x.mat", "features", 4, 10)
    assert next(blocks).shape == (10, 4)
    assert len(children()) == len(before) + 1
    blocks.close()  # type: ignore[attr-defined]
    assert children() == before


def children():
    """Return the processes that this one has started and that have not been waited for."""
    tasks = Path("/proc/self/task").iterdir()
    return sorted(child for task in tasks for child in (task / "children").read_text().split())
