"""The test parts: right, and out of a search's reach."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_package import TINY, tiny_variables, write_package

from mianet.data import datasets
from mianet.data.search_data import load_search_data
from mianet.data.test_parts import load_test_parts
from mianet.errors import InputError

pytestmark = pytest.mark.usefixtures("forked_readers")

ROOT = Path(__file__).parent.parent

LOAD_AND_TELL = """
import json, pathlib, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from mianet.data.search_data import load_search_data
data = load_search_data("numbers")
total = float(data.features.sum(dtype="float64"))
modules = sorted(sys.modules)
maps = pathlib.Path("/proc/self/maps").read_text()
print(json.dumps({"opened": opened, "maps": maps, "modules": modules, "total": total}))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MIANET_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "store"


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The data folder of a tiny data set."""
    monkeypatch.setattr(datasets, "DATASETS", {**datasets.DATASETS, "tiny": TINY})
    write_package(tmp_path / "data" / "TINY", *tiny_variables())
    return tmp_path / "data"


def test_parts_are_those_of_the_file(tiny):
    images, splits = tiny_variables()
    parts = load_test_parts("TINY", tiny)
    assert parts.class_names == ("ant", "bee", "cat", "dog", "eel", "fox")
    np.testing.assert_array_equal(parts.class_attributes, splits["att"].T.astype(np.float32))
    np.testing.assert_array_equal(parts.seen_classes, [0, 1, 3, 4])
    np.testing.assert_array_equal(parts.unseen_classes, [2, 5])
    for part in ("test_seen", "test_unseen"):
        rows = splits[f"{part}_loc"].ravel().astype(int) - 1
        expected = images["features"].T[rows].astype(np.float32)
        np.testing.assert_array_equal(getattr(parts, f"{part}_features"), expected)
        expected = images["labels"][rows, 0].astype(int) - 1
        np.testing.assert_array_equal(getattr(parts, f"{part}_labels"), expected)
    for array in vars(parts).values():
        assert isinstance(array, tuple) or array.flags.c_contiguous


@pytest.mark.parametrize("name", ["numbers", "synthetic:numbers", "tiny"])
def test_parts_and_search_share_no_image_and_agree_on_classes(tiny, name):
    search, parts = load_search_data(name, tiny), load_test_parts(name, tiny)
    np.testing.assert_array_equal(search.class_ids, parts.seen_classes)
    np.testing.assert_array_equal(
        search.class_attributes, parts.class_attributes[parts.seen_classes]
    )
    assert set(parts.test_seen_labels) == set(parts.seen_classes)
    assert set(parts.test_unseen_labels) == set(parts.unseen_classes)
    assert not set(parts.seen_classes) & set(parts.unseen_classes)
    trained = {row.tobytes() for row in search.features}
    tested = np.concatenate([parts.test_seen_features, parts.test_unseen_features])
    assert not trained & {row.tobytes() for row in tested}


def search_in_another_process():
    result = subprocess.run(
        [sys.executable, "-c", LOAD_AND_TELL],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(result.stdout), result.stderr


def test_a_search_opens_and_imports_nothing_of_the_test_parts(cache):
    expected = float(load_search_data("numbers").features.sum(dtype=np.float64))
    told, _ = search_in_another_process()
    assert told["total"] == expected
    ours = [path for path in told["opened"] if str(cache) in path]
    assert any(path.endswith("search/features.npy") for path in ours)  # the hook does see them
    assert [path for path in ours if "/search/" not in path] == [
        str(cache / "numbers" / "current.json")
    ]
    assert "search/features.npy" in told["maps"]
    assert str(cache) + "/numbers" in told["maps"]
    assert "/test/" not in told["maps"]
    assert "mianet.data.test_parts" not in told["modules"]
    assert not [path for path in told["opened"] if "digits.csv" in path]


def test_a_search_needs_no_test_file(cache):
    load_search_data("numbers")
    (folder,) = cache.glob("numbers/*/test")
    shutil.rmtree(folder)
    _, err = search_in_another_process()
    assert "converting" not in err
    assert not folder.exists()


def test_spoilt_test_files_leave_the_search_alone_and_are_made_again(tiny, cache, capsys):
    search = load_search_data("tiny", tiny)
    before = np.array(search.features)
    for file in cache.glob("tiny*/*/test/*.npy"):
        file.write_bytes(os.urandom(file.stat().st_size))
    capsys.readouterr()
    np.testing.assert_array_equal(load_search_data("tiny", tiny).features, before)
    assert capsys.readouterr().err == ""

    parts = load_test_parts("tiny", tiny)
    assert "converting tiny" in capsys.readouterr().err
    rows = tiny_variables()[1]["test_unseen_loc"].ravel().astype(int) - 1
    expected = tiny_variables()[0]["features"].T[rows].astype(np.float32)
    np.testing.assert_array_equal(parts.test_unseen_features, expected)
    # The earlier mapping outlives the generation that it belongs to.
    np.testing.assert_array_equal(search.features, before)


def test_spoilt_test_files_without_their_source_are_not_used(tiny, cache):
    load_search_data("tiny", tiny)
    for file in cache.glob("tiny*/*/test/*.npy"):
        file.write_bytes(b"noise")
    (tiny / "TINY" / "res101.mat").unlink()
    with pytest.raises(InputError, match=r"has no res101\.mat"):
        load_test_parts("tiny", tiny)
