"""A folder in the field's layout is a data set, wherever it is and whatever it is called."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from bad_packages import BAD_PACKAGES
from tiny_package import tiny_variables, write_package

from mianet.config import Hyperparameters
from mianet.data.datasets import find_dataset
from mianet.data.search_data import load_search_data, paper_hyperparameters, recorded_name
from mianet.data.sources import open_source
from mianet.data.test_parts import load_test_parts, unseen_image_names
from mianet.errors import InputError
from tuning.engine.study import check_data

pytestmark = pytest.mark.usefixtures("forked_readers")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MIANET_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def birds(tmp_path):
    return write_package(tmp_path / "data" / "My Birds", *tiny_variables())


def test_a_folder_is_read_by_its_path_and_by_its_name(birds, monkeypatch):
    monkeypatch.chdir(birds)
    ways = [str(birds), f"{birds}/", ".", "../My Birds", "my birds"]
    loaded = [load_search_data(way, birds.parent) for way in ways]
    assert len({data.digest for data in loaded}) == 1
    (name,) = {data.name for data in loaded}
    assert name == f"my-birds-{loaded[0].digest[:12]}"
    assert recorded_name(name) == recorded_name(str(birds)) == name
    assert find_dataset(name).title == "my-birds"
    assert paper_hyperparameters(name) == Hyperparameters()
    images, splits = tiny_variables()
    rows = splits["trainval_loc"].ravel().astype(int) - 1
    np.testing.assert_array_equal(loaded[0].features, images["features"].T[rows].astype("f4"))
    assert unseen_image_names(str(birds))[0] == f"image {int(splits['test_unseen_loc'][0, 0])}"


def test_copies_share_a_name_and_other_content_has_another(birds, tmp_path):
    copy = shutil.copytree(birds, tmp_path / "elsewhere" / "My Birds")
    name = load_search_data(str(birds)).name
    assert load_search_data(str(copy)).name == name
    images, splits = tiny_variables()
    write_package(copy, {**images, "features": images["features"] + 1}, splits)
    assert load_search_data(str(copy)).name != name


@pytest.mark.parametrize("folder", ["птицы", "鳥 2", "a;b $(c)", "-x"])
def test_any_name_of_a_folder_will_do(tmp_path, folder):
    path = write_package(tmp_path / folder, *tiny_variables())
    data = load_search_data(str(path))
    assert not set(data.name) & set("/:%$(); ")
    assert find_dataset(data.name).name == data.name


def test_images_of_no_part_and_classes_without_images_are_left_out(tmp_path):
    images, splits = tiny_variables()
    order = np.array([3, 0, 1, 2, 4, 5, 6])  # a seventh class, "gnu", comes second
    names = np.empty((7, 1), dtype=object)
    names[:, 0] = ["ant", "gnu", "bee", "cat", "dog", "eel", "fox"]
    images["labels"] = images["labels"] + (images["labels"] > 1)
    splits["att"] = np.insert(splits["att"], 1, splits["att"][order[:5], 0], axis=1)
    splits["allclasses_names"] = names
    dropped = splits["trainval_loc"][3, 0]
    splits["trainval_loc"] = np.delete(splits["trainval_loc"], 3, axis=0)
    folder = str(write_package(tmp_path / "x", images, splits))
    data, test = load_search_data(folder), load_test_parts(folder)
    assert test.class_names == ("ant", "bee", "cat", "dog", "eel", "fox")
    np.testing.assert_array_equal(test.class_attributes, tiny_variables()[1]["att"].T.astype("f4"))
    rows = splits["trainval_loc"].ravel().astype(int) - 1
    assert dropped - 1 not in rows
    np.testing.assert_array_equal(data.features, images["features"].T[rows].astype("f4"))
    expected = tiny_variables()[0]["labels"].ravel().astype(int)[rows] - 1
    np.testing.assert_array_equal(data.class_ids[data.labels], expected)


def test_attributes_are_scaled_and_names_may_be_missing(tmp_path):
    images, splits = tiny_variables()
    names = splits.pop("allclasses_names")
    splits["att"] = splits["original_att"]
    test = load_test_parts(str(write_package(tmp_path / "x", images, splits)))
    np.testing.assert_allclose(np.linalg.norm(test.class_attributes, axis=1), 1, rtol=1e-6)
    assert test.class_names == tuple(f"class {k + 1}" for k in range(len(names)))


@pytest.mark.parametrize("make", [make for make, _ in BAD_PACKAGES.values()], ids=BAD_PACKAGES)
def test_a_bad_folder_loads_or_is_one_line(tmp_path, make):
    make(tmp_path / "x")
    data, line = None, "; "
    try:
        data = load_search_data(str(tmp_path / "x"))
    except InputError as error:
        line = str(error)
    assert line.isprintable()
    assert "; " in line
    assert "published file" not in line
    assert data is None or np.isfinite(data.features).all()


@pytest.mark.parametrize("name", ["/none", "./none", "~nosuchuser/x", "a\0/b"])
def test_a_path_without_a_data_set_is_one_line(name):
    with pytest.raises(InputError, match=r"has no res101.mat|must be a path"):
        load_search_data(name)


def test_a_recorded_name_does_not_say_where_the_data_are():
    with pytest.raises(InputError, match="this recorded name does not say where it is; give"):
        load_search_data("birds-0123456789ab")


def test_a_published_folder_by_its_path_is_as_by_its_name(shared_data_dir):
    if not (shared_data_dir / "xlsa17" / "data" / "AWA1" / "res101.mat").is_file():
        pytest.skip("AWA1 has no res101.mat")
    by_name = load_search_data("AWA1", shared_data_dir)
    by_path = load_search_data(str(shared_data_dir / "xlsa17" / "data" / "AWA1"))
    assert by_path.name == f"awa1-{by_name.digest[:12]}"
    assert open_source("awa1", shared_data_dir).title == "AWA1"
    for name, value in vars(by_name).items():
        if isinstance(value, np.ndarray) and name != "class_attributes":
            np.testing.assert_array_equal(value, getattr(by_path, name))
    np.testing.assert_allclose(by_name.class_attributes, by_path.class_attributes, atol=1e-7)


def test_a_search_has_enough_classes_and_not_too_many(birds):
    data = load_search_data(str(birds))
    check_data(data)
    for classes, message in ((2, "at least 3 seen classes"), (20_001, "at most 20,000 seen")):
        vectors, ids = np.ones((classes, 5), np.float32), np.arange(classes)
        other = replace(data, class_attributes=vectors, class_ids=ids)
        with pytest.raises(InputError, match=message):
            check_data(other)
    check_data(other, "eszsl")
