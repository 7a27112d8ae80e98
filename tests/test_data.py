"""The table of data sets, the embedded and the synthetic one, and what a search is given."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from tiny_package import TINY, tiny_variables, write_package

from mianet.config import Hyperparameters
from mianet.data import datasets
from mianet.data.datasets import DATASETS, find_dataset
from mianet.data.images import Checks
from mianet.data.numbers import digit_attributes, read_numbers
from mianet.data.search_data import load_search_data, paper_hyperparameters
from mianet.data.sources import open_source
from mianet.data.synthetic import synthetic_images
from mianet.errors import InputError

ROOT = Path(__file__).parent.parent
SPECS = [pytest.param(spec, id=name) for name, spec in DATASETS.items()]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MIANET_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("spec", SPECS)
def test_an_entry_is_whole(spec):
    assert DATASETS[spec.name] is spec
    assert spec.name == spec.title.lower()
    assert (spec.folder is None) == (spec.name == "numbers")
    assert paper_hyperparameters(spec.title) == Hyperparameters(**spec.paper_settings)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("prefix", ["", "synthetic:"])
def test_a_name_is_found_in_any_case(spec, prefix):
    for name in (spec.name, spec.name.upper(), spec.title, f" {spec.title} "):
        dataset = find_dataset(prefix.upper() + name.strip())
        assert (dataset.name, dataset.spec) == (prefix + spec.name, spec)
        assert dataset.synthetic == bool(prefix)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("awa", "did you mean 'awa"),
        ("AYP", "did you mean 'apy'"),
        ("number", "did you mean 'numbers'"),
        ("synthetic:cup", "did you mean 'synthetic:cub'"),
        ("synthetic:synthetic:cub", "must be one of sun, cub, awa1, awa2, apy, flo, numbers"),
        ("", "must be one of sun, cub, awa1, .*, numbers, synthetic:<one of them>"),
    ],
)
def test_an_unknown_name_gets_the_list_and_the_nearest(name, hint):
    with pytest.raises(InputError, match=hint):
        load_search_data(name)


def test_the_paper_has_alpha_100_on_sun_only():
    assert paper_hyperparameters("synthetic:SUN").alpha == 100
    assert {paper_hyperparameters(name).alpha for name in DATASETS if name != "sun"} == {1000.0}


def test_a_search_gets_trainval_and_seen_classes_of_a_new_entry(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "DATASETS", {**DATASETS, "tiny": TINY})
    images, splits = tiny_variables()
    write_package(tmp_path / "TINY", images, splits)
    data = load_search_data("Tiny", tmp_path)
    rows = splits["trainval_loc"].ravel().astype(int) - 1
    assert data.name == "tiny"
    assert data.class_names == ("ant", "bee", "dog", "eel")
    np.testing.assert_array_equal(data.class_ids, [0, 1, 3, 4])
    np.testing.assert_array_equal(data.features, images["features"].T[rows].astype(np.float32))
    np.testing.assert_array_equal(data.class_ids[data.labels], images["labels"][rows, 0] - 1)
    np.testing.assert_array_equal(
        data.class_attributes, splits["att"].T[[0, 1, 3, 4]].astype(np.float32)
    )


class TestSynthetic:
    """Invented images of a published shape."""

    @pytest.mark.parametrize("spec", SPECS)
    def test_has_the_published_shape(self, spec):
        images = synthetic_images(spec)
        Checks(spec, "a test").images(images)
        assert images.features.shape == (spec.images, spec.feature_dim)
        assert images.features.min() == 0  # as features behind a ReLU
        assert 0.2 < np.mean(images.features[:500] == 0) < 0.8

    def test_is_the_same_in_another_process(self):
        code = (
            "from mianet.data.search_data import *; import zlib\n"
            "d = load_search_data('synthetic:numbers')\n"
            "print(d.digest, zlib.crc32(d.labels), float(d.features.sum(dtype='float64')))"
        )
        digest, labels, total = run(code).split()
        data = load_search_data("synthetic:numbers")
        expected = summary(data)
        assert (digest, int(labels)) == expected[:2]
        assert float(total) == pytest.approx(expected[2], rel=1e-6)

    def test_unseen_classes_are_told_from_attributes_neither_by_chance_nor_perfectly(self):
        spec = DATASETS["apy"]
        images = synthetic_images(spec)
        features = np.ascontiguousarray(images.features[:, ::8])  # an eighth is quicker to solve
        mean, scale = features[images.trainval].mean(axis=0), features[images.trainval].std(axis=0)
        features = (features - mean) / scale
        train = features[images.trainval]
        targets = images.class_attributes[images.labels[images.trainval]]
        ridge = train.T @ train + 100 * np.eye(train.shape[1])
        weights = np.linalg.solve(ridge, train.T @ targets)
        unseen = np.unique(images.labels[images.test_unseen])
        scores = features[images.test_unseen] @ weights @ images.class_attributes[unseen].T
        correct = unseen[scores.argmax(axis=1)] == images.labels[images.test_unseen]
        assert 3 / len(unseen) < correct.mean() < 0.95


class TestNumbers:
    """The embedded data set."""

    def test_is_what_the_table_says(self):
        images = read_numbers()
        Checks(DATASETS["numbers"], "a test").images(images)
        assert images.features.shape[1] == DATASETS["numbers"].feature_dim

    def test_every_half_is_a_scan_of_its_digit_that_is_used_once(self):
        images, scans = read_numbers(), load_digits()
        digit_of = {
            row.tobytes(): label for row, label in zip(scans.data, scans.target, strict=True)
        }
        assert len(digit_of) == len(scans.data)
        halves = np.stack(np.split(images.features.astype(scans.data.dtype), 2, axis=1), axis=1)
        for (tens, units), label in zip(halves, images.labels, strict=True):
            digits = digit_of.pop(tens.tobytes()), digit_of.pop(units.tobytes())
            assert digits == divmod(label, 10)

    def test_every_digit_stands_evenly_in_either_place_of_seen_and_unseen_numbers(self):
        images = read_numbers()
        for rows, times in ((images.test_unseen, 2), (images.trainval, 8)):
            for digits in np.divmod(np.unique(images.labels[rows]), 10):
                assert np.bincount(digits).tolist() == [times] * 10

    def test_a_number_has_the_attributes_of_its_digits(self):
        digits, numbers = digit_attributes(), read_numbers().class_attributes
        np.testing.assert_allclose(np.linalg.norm(numbers, axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(numbers[37] * np.sqrt(2), [*digits[3], *digits[7]], atol=1e-6)

    def test_no_two_digits_share_a_code(self):
        similarity = digit_attributes() @ digit_attributes().T
        assert (similarity - np.eye(10)).max() < 0.95

    def test_needs_no_files(self, tmp_path):
        data = load_search_data("Numbers", tmp_path / "none")
        assert data.features.shape == (480, 128)
        assert len(data.class_names) == 80
        assert data.digest == open_source("numbers").digest()


def run(code):
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return result.stdout


def summary(data):
    return data.digest, zlib.crc32(data.labels), float(data.features.sum(dtype=np.float64))
