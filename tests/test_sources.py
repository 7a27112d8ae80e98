"""The readers: published layouts read exactly, and every spoilt file named in one clear line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from tiny_package import TINY, save_hdf5, tiny_variables, write_package

from mianet.data.datasets import DATASETS
from mianet.data.folders import read_folder, read_splits
from mianet.data.images import Checks
from mianet.data.sources import find_folder, open_source
from mianet.errors import InputError

MAT_DATASETS = [spec for spec in DATASETS.values() if spec.folder]


def read_checked(folder):
    images = read_folder(folder, TINY)
    Checks(TINY, str(folder)).images(images)
    return images


def assert_is_tiny(images):
    written, splits = tiny_variables()
    np.testing.assert_array_equal(images.features, written["features"].T.astype(np.float32))
    np.testing.assert_array_equal(images.labels, written["labels"].ravel().astype(int) - 1)
    np.testing.assert_array_equal(images.class_attributes, splits["att"].T.astype(np.float32))
    assert images.class_names == ("ant", "bee", "cat", "dog", "eel", "fox")
    for part in ("trainval", "test_seen", "test_unseen"):
        np.testing.assert_array_equal(
            getattr(images, part), splits[f"{part}_loc"].ravel().astype(int) - 1
        )


@pytest.mark.parametrize("writer", [scipy.io.savemat, save_hdf5])
def test_both_formats_are_read_exactly(tmp_path, writer):
    assert_is_tiny(read_checked(write_package(tmp_path, *tiny_variables(), writer)))


def test_a_compressed_file_is_read_exactly(tmp_path):
    def compressed(path, variables):
        scipy.io.savemat(path, variables, do_compression=True)

    assert_is_tiny(read_checked(write_package(tmp_path, *tiny_variables(), compressed)))


def nested_names(splits):
    names = splits["allclasses_names"]
    for k, name in enumerate(names[:, 0]):
        inner = np.empty((1, 1), dtype=object)
        inner[0, 0] = name
        names[k, 0] = inner


def boxed_names(splits):
    box = np.empty((1, 1), dtype=object)
    box[0, 0] = splits["allclasses_names"]
    splits["allclasses_names"] = box


def padded_names(splits):
    splits["allclasses_names"] = np.array([f"{n:8}" for n in splits["allclasses_names"][:, 0]])


@pytest.mark.parametrize("change", [nested_names, boxed_names, padded_names])
def test_class_names_are_read_from_any_kind_of_list(tmp_path, change):
    images, splits = tiny_variables()
    change(splits)
    assert_is_tiny(read_checked(write_package(tmp_path, images, splits)))


def test_every_orientation_and_number_type_is_read(tmp_path):
    images, splits = tiny_variables()
    images["features"] = images["features"].T
    images["labels"] = images["labels"].T.astype(float)
    splits["trainval_loc"] = splits["trainval_loc"].T.astype(float)
    assert_is_tiny(read_checked(write_package(tmp_path, images, splits)))


def test_train_loc_and_val_loc_are_never_read(tmp_path):
    images, splits = tiny_variables()
    splits["train_loc"] = splits["val_loc"] = np.full((3, 3), np.nan)
    assert_is_tiny(read_checked(write_package(tmp_path, images, splits)))


class TestFolder:
    """Where a data set is looked for."""

    @pytest.mark.parametrize("place", ["TINY", "tiny", "xlsa17/data/TINY", "xlsa17/data/Tiny"])
    def test_both_layouts_in_any_case(self, tmp_path, place):
        folder = write_package(tmp_path / place, *tiny_variables())
        assert find_folder(TINY, tmp_path) == folder

    def test_argument_then_variable_then_default(self, tmp_path, monkeypatch):
        folders = {}
        for name in ("argument", "variable", "data"):
            folders[name] = write_package(tmp_path / name / "TINY", *tiny_variables())
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("MIANET_DATA_DIR", raising=False)
        assert find_folder(TINY) == folders["data"]
        monkeypatch.setenv("MIANET_DATA_DIR", str(tmp_path / "variable"))
        assert find_folder(TINY) == folders["variable"]
        assert find_folder(TINY, Path("argument")) == folders["argument"]

    def test_a_whole_folder_is_preferred_to_one_that_lacks_a_file(self, tmp_path):
        (tmp_path / "TINY").mkdir()
        folder = write_package(tmp_path / "xlsa17" / "data" / "TINY", *tiny_variables())
        assert find_folder(TINY, tmp_path) == folder

    def test_absence_says_where_it_looked_and_both_remedies(self, tmp_path):
        with pytest.raises(InputError) as error:
            find_folder(DATASETS["sun"], tmp_path / "none")
        message = str(error.value)
        for part in ("none/SUN", "none/xlsa17/data/SUN", "python -m mianet.download", "put the"):
            assert part in message

    @pytest.mark.parametrize("file", ["res101.mat", "att_splits.mat"])
    def test_a_missing_file_is_named(self, tmp_path, file):
        folder = write_package(tmp_path / "SUN", *tiny_variables())
        (folder / file).unlink()
        with pytest.raises(InputError, match=rf"{folder} has no {file}; run `python -m mianet.dow"):
            find_folder(DATASETS["sun"], tmp_path)

    def test_a_set_that_the_package_lacks_is_not_to_be_downloaded(self, tmp_path):
        with pytest.raises(InputError, match=r"but there is neither .*; put the two files in"):
            find_folder(DATASETS["flo"], tmp_path)


@pytest.mark.parametrize("spec", MAT_DATASETS, ids=lambda spec: spec.name)
def test_the_published_splits_pass(shared_data_dir, spec):
    folder = shared_data_dir / "xlsa17" / "data" / spec.folder
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    splits, attributes, names = read_splits(folder, spec)
    # An oracle of its own: each image is in one part, and the parts are as long as published.
    together = sorted(row for rows in splits.values() for row in rows.tolist())
    assert together == list(range(spec.images))
    assert attributes.shape == (spec.classes, spec.attribute_dim)
    assert len(set(names)) == spec.classes


@pytest.mark.parametrize("spec", MAT_DATASETS, ids=lambda spec: spec.name)
def test_the_published_folders_load_or_say_what_is_missing(shared_data_dir, spec):
    folder = shared_data_dir / "xlsa17" / "data" / spec.folder
    if (folder / "res101.mat").is_file():
        images = open_source(spec.name, shared_data_dir).read()
        Checks(spec, str(folder)).images(images)
    else:
        with pytest.raises(InputError, match=rf"{spec.title} must .*res101.mat and att_splits"):
            open_source(spec.name, shared_data_dir)


def test_real_labels_in_the_splits_of_another_data_set_are_refused(shared_data_dir):
    folder = shared_data_dir / "xlsa17" / "data" / "AWA1"
    if not (folder / "res101.mat").is_file():
        pytest.skip(f"{folder} has no res101.mat")
    images = read_folder(folder, DATASETS["awa1"])
    shifted = dataclasses.replace(images, labels=np.roll(images.labels, 1))
    with pytest.raises(InputError, match="must have images of 40 seen classes as published"):
        Checks(DATASETS["awa1"], "a test").images(shifted)
