"""Other class embeddings than a data set's own attributes, wherever a data set is loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path

import mlflow
import numpy as np
import pytest
import scipy.io
from commands import SMALL, run
from own_data import NAMES, attribute_table, write_own_data
from tiny_package import TINY, tiny_variables, write_package

from mianet.data import datasets
from mianet.data.class_vectors import open_embedding
from mianet.data.search_data import load_search_data
from mianet.data.test_parts import load_test_parts
from mianet.errors import InputError
from mianet.package import main as package

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox")
SEEN = (0, 1, 3, 4)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIANET_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "DATASETS", {"tiny": TINY})
    write_package(tmp_path / "data" / "TINY", *tiny_variables())
    return tmp_path


def words(width=3, seed=1):
    return np.random.default_rng(seed).normal(size=(6, width))


def write_words(kind, array):
    """Write an embedding of the tiny data set's classes; return its name."""
    if kind == "csv":  # in another order, with a class that the data set lacks
        lines = [
            f"{name},{a!r},{b!r},{c!r}"
            for name, (a, b, c) in zip(CLASSES, array.tolist(), strict=True)
        ]
        Path("w.csv").write_text("\n".join(["class,a,b,c", "gnu,1,2,3", *lines[::-1]]))
    elif kind == "npy":
        np.save("w.npy", array)
    elif kind == "mat":
        scipy.io.savemat("w.mat", {"att": array.T})
    else:
        scipy.io.savemat("w.mat", {"w2v": array})
        return "w.mat:w2v"
    return f"w.{kind}"


def unit(array):
    return array / np.linalg.norm(array, axis=1, keepdims=True)


@pytest.mark.usefixtures("forked_readers")
@pytest.mark.parametrize("kind", ["csv", "npy", "mat", "matrix of a name"])
@pytest.mark.parametrize("dataset", ["tiny", "./data/TINY"])
def test_it_replaces_the_attributes_of_any_data_set(here, kind, dataset):
    array = words()
    file = write_words(kind, array)
    own, data = load_search_data(dataset), load_search_data(dataset, embedding=[file])
    np.testing.assert_allclose(data.class_attributes, unit(array)[list(SEEN)], rtol=1e-5)
    test = load_test_parts(dataset, embedding=[file])
    np.testing.assert_allclose(test.class_attributes, unit(array), rtol=1e-5)
    assert data.name == own.name
    assert own.digest != data.digest != load_search_data(dataset).digest
    assert own.class_embedding == ""
    assert re.fullmatch(rf"{file} \([0-9a-f]{{12}}\)", data.class_embedding)


@pytest.mark.usefixtures("forked_readers")
def test_several_are_put_side_by_side_and_count_alike(here):
    first, second = words(3), 1000 * words(2, seed=2)
    np.save("a.npy", first)
    np.save("b.npy", second)
    data = load_search_data("tiny", embedding=["a.npy", "b.npy"])
    expected = np.hstack([unit(first), unit(second)])[list(SEEN)] / np.sqrt(2)
    np.testing.assert_allclose(data.class_attributes, expected, rtol=1e-5)
    other = load_search_data("tiny", embedding=["b.npy", "a.npy"])
    assert other.digest != data.digest
    own = ["data/TINY/att_splits.mat", "a.npy"]
    assert load_search_data("tiny", embedding=own).class_attributes.shape == (4, 8)


def test_the_digest_is_of_the_content_and_not_of_the_place(here):
    np.save("a.npy", words())
    np.save("b.npy", words())
    first, second = open_embedding(["a.npy"]), open_embedding(["b.npy"])
    assert first.digest == second.digest
    np.save("b.npy", words(seed=3))
    assert open_embedding(["b.npy"]).digest != first.digest
    assert open_embedding(["a.npy", "a.npy"]).digest != first.digest
    assert open_embedding([]) is None


def rows(*lines):
    return lambda: Path("w.csv").write_text("\n".join(lines))


WELL = ("ant,1,2", "bee,2,2", "cat,3,2", "dog,4,2", "eel,5,2", "fox,6,2")
BAD = {
    "no such file": ("none.csv", lambda: None, "none.csv is not .No such file"),
    "a name that differs": ("w.csv", rows(*WELL[1:], "antt,1,2"), "'ant'; did you mean 'antt'"),
    "a class twice": ("w.csv", rows(*WELL, WELL[0]), "has 'ant' 2 times"),
    "no numbers": ("w.csv", rows("ant,1,2", "bee,x,y"), "names with equally many numbers each"),
    "no text": ("w.csv", lambda: Path("w.csv").write_bytes(b"\xff\xfe\x00"), "readable text"),
    "zeros": ("w.csv", rows("ant,0,0", *WELL[1:]), "not all zero, but that of 'ant' is not"),
    "NaN": ("w.csv", rows("ant,1,nan", *WELL[1:]), "finite and not all zero, .* 'ant'"),
    "too large": ("w.csv", rows("ant,1e300,1", *WELL[1:]), "finite|length 1"),
    "equal classes": ("w.csv", rows("ant,2,2", *WELL[1:]), "'ant' and 'bee' have equal vectors"),
    "too few rows": ("w.npy", lambda: np.save("w.npy", words()[:5]), "6 rows, one for each class"),
    "no matrix": ("w.npy", lambda: np.save("w.npy", np.ones(6)), "matrix of numbers"),
    "objects": ("w.npy", lambda: np.save("w.npy", np.array([{}])), "intact .npy file"),
    "no such matrix": ("w.mat:x", lambda: write_words("mat", words()), "must have x|x"),
    "another kind": ("w.txt", rows(), "w.txt is not|class vectors must end in"),
}


@pytest.mark.usefixtures("forked_readers")
@pytest.mark.parametrize(("file", "write", "message"), BAD.values(), ids=BAD)
def test_a_bad_one_is_one_line(here, file, write, message):
    write()
    for load in (load_search_data, load_test_parts):
        with pytest.raises(InputError, match=message) as refused:
            load("tiny", embedding=[file])
        assert str(refused.value).isprintable()


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A search of one's own folder with another class embedding, to its report."""
    folder = tmp_path_factory.mktemp("embedded")
    write_own_data(folder)
    made = [
        *("build", str(folder / "My digits"), "--features", str(folder / "features.npy")),
        *("--labels", str(folder / "labels.txt"), "--attributes", str(folder / "attributes.csv")),
    ]
    assert package(made) == 0
    table = dict(zip(NAMES, attribute_table().tolist(), strict=True))
    (folder / "words.json").write_text(json.dumps({k: [*v, 0.5, 2.0] for k, v in table.items()}))
    command = ("--dataset", "./My digits", "--class-embedding", "words.json", "--trials", "2")
    ended = run("search", *command, *SMALL, "--final-seeds", "1", "--study", "words", cwd=folder)
    return folder, ended


def test_a_folder_is_searched_with_it_to_the_report(studied):
    folder, ended = studied
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "classes described by words.json (" in " ".join(ended.stdout.split())
    assert "registered mianet-my-digits-" in ended.stdout
    page = (folder / "ray_results/words/report.html").read_text(encoding="utf-8")
    assert "Classes are described by words.json (" in page
    runs = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").search_runs(
        [e.experiment_id for e in _experiments(folder)]
    )
    assert len({run.data.tags["data_digest"] for run in runs}) == 1
    assert {run.data.tags["dataset"] for run in runs}.pop().startswith("my-digits-")
    (study,) = (run for run in runs if run.data.tags["kind"] == "study")
    assert study.data.params["protocol.class_embedding"].startswith("words.json (")


def _experiments(folder):
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return [e for e in client.search_experiments() if e.name.startswith("mianet-my-digits-")]


def test_it_goes_on_with_the_same_embedding_alone(studied):
    folder, _ = studied
    before = (folder / "words.json").read_text()
    try:
        (folder / "words.json").write_text(before.replace("2.0", "2.5"))
        ended = run("search", "--resume", "words", "--trials", "3", cwd=folder)
    finally:
        (folder / "words.json").write_text(before)
    assert ended.returncode == 2
    assert "must be resumed with the data it was started with" in ended.stderr


def test_a_trial_with_the_attributes_is_not_compared(studied):
    folder, _ = studied
    ended = run("final", "--dataset", "./My digits", "--study", "words", cwd=folder)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
