"""Names and files of the test images, in either format of Matlab."""

import numpy as np
import pytest
import scipy.io
from tiny_package import TINY, save_hdf5, tiny_variables, write_package

from mianet.data import datasets
from mianet.data.test_parts import find_image, unseen_image_names
from mianet.errors import InputError

PATHS = [f"/BS/work/JPEGImages/animal{n % 6}/animal_{n}.jpg" for n in range(42)]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Return a function that writes the tiny package, with or without names of images."""
    monkeypatch.setattr(datasets, "DATASETS", {**datasets.DATASETS, "tiny": TINY})

    def write(paths, writer):
        images, splits = tiny_variables()
        if paths is not None:
            images["image_files"] = np.empty((len(paths), 1), dtype=object)
            images["image_files"][:, 0] = paths
        write_package(tmp_path / "TINY", images, splits, writer)
        return tmp_path, splits["test_unseen_loc"].ravel().astype(int) - 1

    return write


@pytest.mark.parametrize("writer", [scipy.io.savemat, save_hdf5])
def test_the_names_are_those_of_the_unseen_test_images_in_their_order(tiny, writer):
    folder, rows = tiny(PATHS, writer)
    assert unseen_image_names("tiny", folder) == tuple(PATHS[row] for row in rows)


@pytest.mark.parametrize("writer", [scipy.io.savemat, save_hdf5])
def test_without_names_an_image_is_called_by_its_column(tiny, writer):
    folder, rows = tiny(None, writer)
    assert unseen_image_names("tiny", folder) == tuple(f"image {row + 1}" for row in rows)


def test_the_wrong_number_of_names_is_refused(tiny):
    folder, _ = tiny(PATHS[:-1], scipy.io.savemat)
    with pytest.raises(InputError, match="must name 42 images, but names 41"):
        unseen_image_names("tiny", folder)


@pytest.mark.parametrize("name", ["numbers", "synthetic:apy"])
def test_a_data_set_without_files_counts_its_images(name):
    names = unseen_image_names(name)
    assert len(names) == len(set(names)) == datasets.find_dataset(name).spec.test_unseen_images


@pytest.mark.parametrize("inside", ["JPEGImages/animal3", "animal3", "."])
def test_a_file_is_found_by_the_end_of_its_name(tmp_path, inside):
    expected = tmp_path / inside / "animal_3.jpg"
    expected.parent.mkdir(parents=True, exist_ok=True)
    expected.touch()
    assert find_image(PATHS[3], tmp_path) == expected
    assert find_image(PATHS[4], tmp_path) is None


def test_nothing_outside_the_folder_is_found(tmp_path):
    (tmp_path / "secret.jpg").touch()
    inside = tmp_path / "images"
    inside.mkdir()
    assert find_image("../secret.jpg", inside) is None
    assert find_image(str(tmp_path / "secret.jpg"), inside) is None


def test_the_real_file_names_its_images_or_counts_them(shared_data_dir):
    names = unseen_image_names("awa1", shared_data_dir)
    assert len(names) == 5_685
    assert len(set(names)) == 5_685
