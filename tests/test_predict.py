"""Batch prediction: every kind of file, chunk by chunk, and one line for what cannot be used."""

import json
import os
import subprocess
import sys
import tracemalloc
from functools import partial

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
from classifiers import WIDTH, small_classifier, some_features, unit_vectors
from commands import ROOT, environment

from mianet.data.class_vectors import parse_json, read_classes
from mianet.errors import InputError
from mianet.inference.feature_files import read_features
from tuning import predict
from tuning.cli import classify_file

IMAGES = 23


@pytest.fixture
def files(tmp_path):
    """A folder with a saved classifier and the same features in every kind of file."""
    small_classifier(calibration=0.05).save(tmp_path / "model.pt")
    features = some_features(IMAGES)
    np.save(tmp_path / "f.npy", features)
    np.save(tmp_path / "double.npy", features.astype(np.float64))
    np.save(tmp_path / "columns.npy", np.asfortranarray(features))
    scipy.io.savemat(tmp_path / "f.mat", {"features": features.T.astype(np.float64)})
    scipy.io.savemat(tmp_path / "rows.mat", {"features": features})
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file["features"] = features  # Matlab's d × N, transposed as it stores matrices
    with h5py.File(tmp_path / "newrows.mat", "w") as file:
        file["features"] = features.T
    frame = pd.DataFrame(features, columns=[f"f{i}" for i in range(WIDTH)])
    frame.to_parquet(tmp_path / "f.parquet", row_group_size=6)
    lists = pa.table({"name": ["x"] * IMAGES, "features": list(features)})
    pq.write_table(lists, tmp_path / "lists.parquet")
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), WIDTH)
    pq.write_table(pa.table({"features": fixed}), tmp_path / "fixed.parquet")
    return tmp_path


ALL = (
    *("f.npy", "double.npy", "columns.npy", "f.mat", "rows.mat", "new.mat", "newrows.mat"),
    *("f.parquet", "lists.parquet", "fixed.parquet"),
)


def command(monkeypatch, *options):
    """Run the command here; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, options)])
    with pytest.raises(SystemExit) as ended:
        predict.main()
    return ended.value.code


def table(path):
    readers = {
        ".csv": lambda p: pd.read_csv(p, dtype={"class": str}),
        ".parquet": pd.read_parquet,
        ".jsonl": lambda p: pd.DataFrame(json.loads(line) for line in p.open()),
    }
    return readers[path.suffix](path)


def check_answers(path, classifier, features, **options):
    found, top = classifier.classify(features, **options), options.get("top_k", 1)
    read = table(path)
    assert list(read.columns) == ["image", "rank", "class", "score"]
    assert read["image"].tolist() == np.repeat(np.arange(len(features)), top).tolist()
    assert read["rank"].tolist() == [*range(1, top + 1)] * len(features)
    assert read["class"].tolist() == [classifier.class_names[c] for c in found.classes.ravel()]
    np.testing.assert_allclose(read["score"], found.scores.ravel(), atol=1e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_every_kind_of_file_gives_the_same_features(files, name, chunk):
    chunks = list(read_features(files / name, WIDTH, chunk=chunk))
    assert max(len(part) for part in chunks) <= chunk
    np.testing.assert_array_equal(np.concatenate(chunks), some_features(IMAGES))


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_every_kind_of_output_says_what_the_classifier_does(files, ending, monkeypatch, capsys):
    monkeypatch.setattr(classify_file, "read_features", partial(read_features, chunk=7))
    output = files / f"out.{ending}"
    options = ("--model", files / "model.pt", "--top-k", "3")
    assert command(monkeypatch, files / "f.npy", output, *options) == 0
    assert "23 images classified among 6 classes" in capsys.readouterr().out
    check_answers(output, small_classifier(calibration=0.05), some_features(IMAGES), top_k=3)


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_new_classes_and_zsl(files, ending, monkeypatch, capsys):
    vectors = unit_vectors(2, seed=5).astype(np.float64)
    if ending == "json":
        new = {"g": vectors[0].tolist(), 'h, "the 2nd"': vectors[1].tolist()}
        (files / "new.json").write_text(json.dumps(new))
    else:
        frame = pd.DataFrame(vectors, columns=list("wxyz"))
        frame.insert(0, "name", ["g", 'h, "the 2nd"'])
        frame.to_csv(files / "new.csv", index=False)
    output = files / "out.csv"
    options = ("--mode", "zsl", "--top-k", "4", "--add-classes", files / f"new.{ending}")
    assert (
        command(monkeypatch, files / "f.mat", output, "--model", files / "model.pt", *options) == 0
    )
    assert "classified among 4 classes" in capsys.readouterr().out
    larger = small_classifier().add_classes(["g", 'h, "the 2nd"'], vectors)
    check_answers(output, larger, some_features(IMAGES), mode="zsl", top_k=4)


def test_the_calibration_can_be_another(files, monkeypatch):
    options = ("--model", files / "model.pt", "--calibration", "0.5")
    assert command(monkeypatch, files / "f.npy", files / "out.csv", *options) == 0
    check_answers(files / "out.csv", small_classifier(), some_features(IMAGES), calibration=0.5)


@pytest.mark.parametrize("name", ["many.npy", "many.mat"])
def test_a_large_file_is_never_in_memory_whole(tmp_path, name):
    images = 500_000
    if name == "many.npy":
        np.save(tmp_path / name, np.ones((images, WIDTH), np.float32))
    else:
        with h5py.File(tmp_path / name, "w") as file:
            file["features"] = np.ones((images, WIDTH), np.float32)
    tracemalloc.start()
    try:
        count = sum(len(chunk) for chunk in read_features(tmp_path / name, WIDTH))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == images
    assert peak < (tmp_path / name).stat().st_size / 4


BAD = [
    ("nothing.npy o.csv", "nothing.npy"),
    ("f.txt o.csv", "must end in .mat, .npy, .parquet"),
    ("f.npy o.txt", "the output must end in .csv, .parquet, .jsonl"),
    ("f.npy none/o.csv", "is not (No such file or directory)"),
    ("f.parquet f.parquet", "the output must differ from the input"),
    ("f.npy o.csv --top-k 0", "--top-k: must be a whole number"),
    ("f.npy o.csv --top-k 3 --mode zsl", "from 1 to 2, the number of zsl classes"),
    ("f.npy o.csv --mode all", "--mode: invalid choice"),
    ("f.npy o.csv --calibration nan", "--calibration: must be a finite number"),
    ("f.npy o.csv --add-classes none.json", "none.json"),
    ("f.npy o.csv --add-classes known.json", "'a' appears twice"),
    ("f.npy o.csv --add-classes twice.json", "'g' appears twice"),
    ("f.npy o.csv --add-classes broken.json", "classes must be names"),
    ("f.npy o.csv --add-classes long.csv", "that of 'g' has length 2"),
    ("f.mat o.csv --key X", "must have the variable X"),
    ("new.mat o.csv --key X", "must have the variable X"),
    ("linked.mat o.csv", "must have the variable features"),
    ("wide.npy o.csv", "shape (images, 8), but got (2, 9)"),
    ("nan.npy o.csv", "the first is image 9,000 (counting from 0)"),
    ("text.npy o.csv", "must be real numbers"),
    ("flat.npy o.csv", "shape (images, 8), but got (8,)"),
    ("nowhere.npy o.csv", "must be in a file, but there is none at"),
    ("none.npy o.csv", "at least one image"),
    ("objects.npy o.csv", "objects.npy must be an intact .npy file"),
    ("damaged.mat o.csv", "damaged.mat"),
    ("damaged.parquet o.csv", "damaged.parquet must be an intact .parquet file"),
    ("named.parquet o.csv", "columns must be numbers, one per feature, but name is"),
    ("gaps.parquet o.csv", "lists of features must have the same length"),
]


@pytest.fixture
def bad_files(files):
    """All that is wrong with a file, beside the good ones."""
    (files / "known.json").write_text('{"a": [1, 0, 0, 0]}')
    (files / "twice.json").write_text('{"g": [1, 0, 0, 0], "g": [0, 1, 0, 0]}')
    (files / "broken.json").write_text('{"g": ["one"]}')
    (files / "long.csv").write_text("g,2,0,0,0\n")
    (files / "f.txt").touch()
    np.save(files / "wide.npy", np.zeros((2, 9)))
    many = np.zeros((9001, 8), np.float32)
    many[9000, 3] = np.nan
    np.save(files / "nan.npy", many)
    np.save(files / "text.npy", np.full((2, 8), "1"))
    np.save(files / "flat.npy", np.zeros(8))
    np.save(files / "none.npy", np.zeros((0, 8)))
    np.save(files / "objects.npy", np.array([[Planted(files)] * 8], dtype=object))
    for name in ("damaged.mat", "damaged.parquet"):
        (files / name).write_bytes(b"noise" * 100)
    pd.DataFrame({"name": ["x"], "f": [1.0]}).to_parquet(files / "named.parquet")
    pq.write_table(pa.table({"features": [[1.0] * 8, [1.0] * 7]}), files / "gaps.parquet")
    with h5py.File(files / "linked.mat", "w") as file:
        file["features"] = h5py.ExternalLink("new.mat", "features")
    return files


class Planted:
    """Pickles to a call of os.mkdir."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / "run"),)


@pytest.mark.parametrize(("options", "message"), BAD)
def test_one_line_and_exit_code_2(bad_files, options, message, monkeypatch, capsys):
    monkeypatch.chdir(bad_files)
    (bad_files / "o.csv").write_text("earlier")
    before = sorted(path.name for path in bad_files.iterdir())
    assert command(monkeypatch, *options.split(), "--model", "model.pt") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1, err
    assert (bad_files / "o.csv").read_text() == "earlier", "what was there stays"
    assert sorted(path.name for path in bad_files.iterdir()) == before, "nothing is left behind"


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "7", '"ab"', "[1]", '{"g": 1}', '{"g": [1], "h": [1, 2]}'),
        *('{"g": [[1]]}', '{"g": {"a": 1}}', '{"g": [null]}', "[" * 100_000),
    ],
)
def test_json_that_holds_no_classes_is_refused(text):
    with pytest.raises(InputError, match="classes must be names with equally many numbers"):
        parse_json(text, "here")


def test_csv_with_and_without_a_heading(tmp_path):
    (tmp_path / "a.csv").write_text(
        "\ufeffname,x,y\r\ng,1,2\r\n\r\n h ,3,4e-1\r\n", encoding="utf-8"
    )
    (tmp_path / "b.csv").write_text("g,1,2\nh,3,0.4\n")
    for name in ("a.csv", "b.csv"):
        read = read_classes(tmp_path / name)
        assert read.names == ("g", "h")
        np.testing.assert_array_equal(read.attributes, [[1, 2], [3, 0.4]])
    (tmp_path / "c.csv").write_text("g,1,x\n")
    with pytest.raises(InputError, match=r"c\.csv is different: could not convert"):
        read_classes(tmp_path / "c.csv")


def test_it_runs_as_a_process_of_its_own(files):
    ended = subprocess.run(
        [sys.executable, ROOT / "tuning" / "predict.py", "f.npy", "o.csv", "--model", "model.pt"],
        cwd=files,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    check_answers(files / "o.csv", small_classifier(calibration=0.05), some_features(IMAGES))
