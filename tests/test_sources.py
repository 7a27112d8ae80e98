"""The readers: published layouts read exactly, and every spoilt file named in one clear line."""

from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from tiny_package import TINY, save_hdf5, tiny_variables, write_package

from mianet.datasets import DATASETS
from mianet.errors import InputError
from mianet.images import check_images
from mianet.sources import find_folder, open_source, read_folder, read_splits

MAT_DATASETS = [spec for spec in DATASETS.values() if spec.folder]


def read_checked(folder):
    images = read_folder(folder, TINY)
    check_images(images, TINY, str(folder))
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


def overlap(variables):
    variables["test_seen_loc"][3] = variables["trainval_loc"][5]


def repeat(variables):
    variables["test_unseen_loc"][3] = variables["test_unseen_loc"][5]


def swap_classes(variables):
    """A trainval image changes places with one of an unseen class."""
    place = variables["trainval_loc"][0].copy()
    variables["trainval_loc"][0] = variables["test_unseen_loc"][0]
    variables["test_unseen_loc"][0] = place


SPOILT_IMAGES = {
    "no features": (drop("features"), r"must have the variable features, but has not"),
    "no labels": (drop("labels"), r"must have the variable labels"),
    "label 0": (put("labels", (0, 0), 0), r"labels of .* must be between 1 and 6, but go from 0"),
    "label 7": (put("labels", (0, 0), 7), r"labels of .* between 1 and 6, but go from 1 to 7"),
    "label 1.5": (put("labels", (3, 0), 1.5), r"labels of .* whole numbers, but entry 4 is 1.5"),
    "label NaN": (put("labels", (3, 0), np.nan), r"whole numbers, but entry 4 is nan"),
    "label inf": (put("labels", (3, 0), np.inf), r"whole numbers, but entry 4 is inf"),
    "labels matrix": (replace("labels", np.ones((21, 2))), r"labels of .* must be a vector"),
    "text labels": (replace("labels", "cat"), r"labels of .* must be a matrix of real numbers"),
    "fewer labels": (cut("labels", slice(40)), r"features of .* must be dimensions × 40 images"),
    "fewer images": (
        lambda v: v.update(labels=v["labels"][:40], features=v["features"][:, :40]),
        r"Tiny must have 42 images as published, but labels of .* has 40",
    ),
    "NaN feature": (put("features", (2, 4), np.nan), r"finite in float32, but 1 images .* image 5"),
    "inf feature": (put("features", (2, 4), -np.inf), r"features of .* must be finite"),
    "too large": (put("features", (2, 4), 1e300), r"features of .* must be finite in float32"),
    "complex": (replace("features", np.ones((7, 42)) * 1j), r"real numbers, but is complex128"),
    "cell": (replace("features", np.array([[1], ["x"]], dtype=object)), r"features of .* matrix"),
    "empty": (replace("features", np.ones((0, 42))), r"features of .* must not be empty"),
    "3-D": (replace("features", np.ones((7, 42, 2))), r"features of .* must be a matrix"),
    "class unseen by test": (
        lambda v: v["labels"].__setitem__(slice(None), np.where(v["labels"] == 2, 1, v["labels"])),
        r"trainval_loc of .* must have images of 4 seen classes as published, but .* of 3",
    ),
}
SPOILT_SPLITS = {
    "no att": (drop("att"), r"must have the variable att"),
    "no trainval": (drop("trainval_loc"), r"must have the variable trainval_loc"),
    "no names": (drop("allclasses_names"), r"must have the variable allclasses_names"),
    "numbers as names": (replace("allclasses_names", np.ones((6, 1))), r"must be a list of text"),
    "five names": (cut("allclasses_names", slice(5)), r"must name 6 classes, but names 5"),
    "overlap": (overlap, r"disjoint .* in trainval_loc and in test_seen_loc; 1 images"),
    "repetition": (repeat, r"in test_unseen_loc and in test_unseen_loc; 1 images"),
    "row 0": (put("trainval_loc", (0, 0), 0), r"trainval_loc of .* between 1 and 42, .* from 0"),
    "row 43": (put("test_seen_loc", (0, 0), 43), r"test_seen_loc of .* between 1 and 42, .* to 43"),
    "row 2.5": (put("trainval_loc", (1, 0), 2.5), r"whole numbers, but entry 2 is 2.5"),
    "count": (cut("trainval_loc", slice(23)), r"Tiny must have 24 trainval images .* has 23"),
    "unseen in trainval": (swap_classes, r"trainval_loc of .* must have images of 4 seen classes"),
    "short att": (cut("att", slice(4)), r"att of .* must be 5 attributes × 6 classes, but is "),
    "NaN att": (put("att", (0, 2), np.nan), r"att of .* must be finite, but has NaN .* for cat"),
    "zero att": (put("att", (slice(None), 1), 0), r"length 1 .* that of 'bee' has length 0"),
    "raw att": (lambda v: v.update(att=v["original_att"]), r"has length 3; divide each column"),
}
SPOILT = [
    pytest.param(k, change, message, id=name)
    for k, table in enumerate((SPOILT_IMAGES, SPOILT_SPLITS))
    for name, (change, message) in table.items()
]


@pytest.mark.parametrize(("file", "change", "message"), SPOILT)
def test_what_is_not_published_is_named_in_one_line(tmp_path, file, change, message):
    variables = tiny_variables()
    change(variables[file])
    folder = write_package(tmp_path, *variables)
    with pytest.raises(InputError, match=message) as error:
        read_checked(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_classes_of_test_seen_must_be_those_of_trainval(tmp_path):
    images, splits = tiny_variables()
    labels = images["labels"]
    rows = splits["test_seen_loc"].ravel().astype(int) - 1
    labels[rows[labels[rows, 0] == 2]] = 1
    with pytest.raises(InputError, match="only one of the two has bee"):
        read_checked(write_package(tmp_path, images, splits))


def test_unseen_classes_must_not_be_trained_on(tmp_path):
    images, splits = tiny_variables()
    rows = splits["test_unseen_loc"].ravel().astype(int) - 1
    images["labels"][rows[images["labels"][rows, 0] == 3]] = 1
    with pytest.raises(InputError, match="must not be in trainval_loc, but ant are in both"):
        read_checked(write_package(tmp_path, images, splits))


@pytest.mark.parametrize("writer", [scipy.io.savemat, save_hdf5])
@pytest.mark.parametrize("file", ["res101.mat", "att_splits.mat"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_file_cut_short_is_refused(tmp_path, writer, file, share):
    folder = write_package(tmp_path, *tiny_variables(), writer)
    path = folder / file
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(InputError, match=file) as error:
        read_checked(folder)
    assert "\n" not in str(error.value)


class Mine:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("kind", ["pickle", "numpy", "text", "noise"])
def test_a_file_of_another_kind_is_refused_and_never_executed(tmp_path, kind):
    folder = write_package(tmp_path / "TINY", *tiny_variables())
    trace = tmp_path / "executed"
    contents = {
        "pickle": lambda path: path.write_bytes(pickle.dumps(Mine(trace))),
        "numpy": lambda path: np.save(path.open("wb"), np.array([Mine(trace)], dtype=object)),
        "text": lambda path: path.write_text("404 not found " * 50),
        "noise": lambda path: path.write_bytes(np.random.default_rng(1).bytes(5000)),
    }
    contents[kind](folder / "res101.mat")
    with pytest.raises(InputError, match=r"res101\.mat must be a whole Matlab file"):
        read_checked(folder)
    assert not trace.exists()


def test_a_link_out_of_an_hdf5_file_is_not_followed(tmp_path):
    folder = write_package(tmp_path, *tiny_variables(), save_hdf5)
    (folder / "res101.mat").rename(tmp_path / "elsewhere.h5")
    with h5py.File(folder / "res101.mat", "w") as file:
        file["features"] = h5py.ExternalLink(str(tmp_path / "elsewhere.h5"), "features")
        file["labels"] = h5py.ExternalLink(str(tmp_path / "elsewhere.h5"), "labels")
    with pytest.raises(InputError, match="must have the variable features, but has not"):
        read_checked(folder)


class TestFolder:
    """Where a data set is looked for."""

    @pytest.mark.parametrize("place", ["TINY", "tiny", "xlsa17/data/TINY", "xlsa17/data/Tiny"])
    def test_both_layouts_in_any_case(self, tmp_path, place):
        folder = write_package(tmp_path / place, *tiny_variables())
        assert find_folder("Tiny", "TINY", tmp_path) == folder

    def test_argument_then_variable_then_default(self, tmp_path, monkeypatch):
        folders = {}
        for name in ("argument", "variable", "data"):
            folders[name] = write_package(tmp_path / name / "TINY", *tiny_variables())
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("MIANET_DATA_DIR", raising=False)
        assert find_folder("Tiny", "TINY") == folders["data"]
        monkeypatch.setenv("MIANET_DATA_DIR", str(tmp_path / "variable"))
        assert find_folder("Tiny", "TINY") == folders["variable"]
        assert find_folder("Tiny", "TINY", Path("argument")) == folders["argument"]

    def test_a_whole_folder_is_preferred_to_one_that_lacks_a_file(self, tmp_path):
        (tmp_path / "TINY").mkdir()
        folder = write_package(tmp_path / "xlsa17" / "data" / "TINY", *tiny_variables())
        assert find_folder("Tiny", "TINY", tmp_path) == folder

    def test_absence_says_where_it_looked_and_both_remedies(self, tmp_path):
        with pytest.raises(InputError) as error:
            find_folder("Tiny", "TINY", tmp_path / "none")
        message = str(error.value)
        for part in ("none/TINY", "none/xlsa17/data/TINY", "python -m mianet.download", "put the"):
            assert part in message

    @pytest.mark.parametrize("file", ["res101.mat", "att_splits.mat"])
    def test_a_missing_file_is_named(self, tmp_path, file):
        folder = write_package(tmp_path / "TINY", *tiny_variables())
        (folder / file).unlink()
        with pytest.raises(InputError, match=rf"{folder} has no {file}; run `python -m mianet.dow"):
            find_folder("Tiny", "TINY", tmp_path)


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
        check_images(images, spec, str(folder))
    else:
        with pytest.raises(InputError, match=f"{spec.title} must have res101.mat and att_splits"):
            open_source(spec.name, shared_data_dir)


def test_real_labels_in_the_splits_of_another_data_set_are_refused(shared_data_dir):
    folder = shared_data_dir / "xlsa17" / "data" / "AWA1"
    if not (folder / "res101.mat").is_file():
        pytest.skip(f"{folder} has no res101.mat")
    images = read_folder(folder, DATASETS["awa1"])
    shifted = dataclasses.replace(images, labels=np.roll(images.labels, 1))
    with pytest.raises(InputError, match="must have images of 40 seen classes as published"):
        check_images(shifted, DATASETS["awa1"], "a test")
