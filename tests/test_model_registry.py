"""The registered model: what it says about itself, and served by MLflow for real."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from classifiers import small_classifier, some_features, unit_vectors
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from mianet.errors import InputError
from mianet.inference.prediction import Classifier
from tuning.tracking.model_registry import load_classifier, register_model
from tuning.tracking.store import open_store

pytestmark = pytest.mark.timeout(400)

MODEL = "models:/mianet-numbers@champion"


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A store with a registered model; its address, the run, and the classifier."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('registry') / 'mlflow.db'}"
    store = open_store(uri)
    experiment = store.client.create_experiment("mianet-numbers", store.artifact_root)
    run_id = store.client.create_run(experiment).info.run_id
    classifier = small_classifier(calibration=0.05)
    register_model(
        uri, run_id=run_id, dataset="numbers", classifier=classifier, example=some_features()
    )
    return uri, run_id, classifier


@pytest.fixture(scope="module")
def model(registered):
    mlflow.set_tracking_uri(registered[0])
    try:
        yield mlflow.pyfunc.load_model(MODEL)
    finally:
        mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def saved(registered, tmp_path_factory):
    """The model as a folder, as MLflow downloads it."""
    mlflow.set_tracking_uri(registered[0])
    try:
        folder = tmp_path_factory.mktemp("saved")
        return mlflow.artifacts.download_artifacts(artifact_uri=MODEL, dst_path=str(folder))
    finally:
        mlflow.set_tracking_uri(None)


def expected_rows(classifier, features, **options):
    """The answer as the served model words it."""
    found = classifier.classify(features, **options)
    return [
        (image, rank + 1, classifier.class_names[index], pytest.approx(score, abs=1e-6))
        for image, (classes, scores) in enumerate(zip(found.classes, found.scores, strict=True))
        for rank, (index, score) in enumerate(zip(classes, scores, strict=True))
    ]


def rows_of(answer):
    names = ("image", "rank", "class", "score")
    records = answer if isinstance(answer, list) else answer.to_dict("records")
    return [tuple(record[name] for name in names) for record in records]


# What it says about itself


def test_it_has_a_signature_an_example_and_its_classes(model, saved):
    signature = model.metadata.signature
    assert signature.inputs.to_dict()[0]["tensor-spec"] == {"dtype": "float32", "shape": (-1, 8)}
    assert signature.outputs.input_names() == ["image", "rank", "class", "score"]
    defaults = {spec.name: spec.default for spec in signature.params}
    assert defaults == {"mode": "gzsl", "top_k": 1, "calibration": None, "new_classes": ""}
    assert model.input_example.shape == (2, 8)
    inside = load_classifier(saved, "not asked for")
    assert inside.class_names == tuple("abcdef")
    assert inside.class_attributes.shape == (6, 4)


def test_its_environment_is_pinned_to_this_one(saved):
    lines = Path(saved, "requirements.txt").read_text().split("\n")
    assert lines[-1] == "-c constraints.txt"
    pins = Path(saved, "constraints.txt").read_text().split()
    for line in [*lines[:-1], *pins]:
        name, _, version = line.partition("==")
        assert re.fullmatch(r"[\w.!]+", version), line
        assert metadata.version(name).partition("+")[0] == version
    names = {pin.partition("==")[0].lower() for pin in pins}
    assert {"torch", "numpy", "fastapi", "uvicorn"} <= names
    assert "mianet-tuning" not in names


# What it answers


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "zsl", "top_k": 2},
        {"top_k": 6, "calibration": 0.0},
        {"top_k": 3, "calibration": -0.2},
    ],
)
def test_it_answers_as_the_classifier(model, registered, options):
    features = some_features()
    answer = model.predict(features, params=options)
    assert rows_of(answer) == expected_rows(registered[2], features, **options)


def test_a_data_frame_is_answered_as_an_array(model):
    features = some_features()
    answer = model.predict(pd.DataFrame(features))
    pd.testing.assert_frame_equal(answer, model.predict(features))


def test_new_classes_come_with_a_request(model, registered):
    features, vectors = some_features(), unit_vectors(2, seed=5)
    new = json.dumps({"g": vectors[0].tolist(), "ĥ": vectors[1].tolist()})
    answer = model.predict(features, params={"new_classes": new, "top_k": 4, "mode": "zsl"})
    larger = registered[2].add_classes(["g", "ĥ"], vectors)
    assert rows_of(answer) == expected_rows(larger, features, top_k=4, mode="zsl")
    assert len(model.unwrap_python_model().classifier.class_names) == 6


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (np.zeros((2, 9), np.float32), {}, r"\(2, 9\) does not match expected shape \(-1, 8\)"),
        (np.zeros((2, 8)), {}, "float64 does not match expected dtype float32"),
        (np.full((2, 8), np.nan, np.float32), {}, "features must be finite"),
        (np.zeros((0, 8), np.float32), {}, "at least one image"),
        (some_features(), {"mode": "all"}, "mode must be one of gzsl, zsl"),
        (some_features(), {"top_k": 7}, "top_k must be from 1 to 6, the number of gzsl classes"),
        (some_features(), {"top_k": "two"}, "top_k"),
        (some_features(), {"calibration": float("inf")}, "calibration must be a finite number"),
        (some_features(), {"new_classes": "g"}, "classes must be names"),
        (some_features(), {"new_classes": '{"a": [1, 0, 0, 0]}'}, "'a' appears twice"),
    ],
)
def test_what_cannot_be_answered_is_refused(model, features, options, message):
    with pytest.raises(MlflowException, match=message):
        model.predict(features, params=options)


# Loading the classifier alone


def test_every_reference_leads_to_the_same_classifier(registered, saved):
    uri, run_id, classifier = registered
    expected = classifier.predict(some_features())
    references = [
        *(MODEL, "models:/mianet-numbers/1", f"runs:/{run_id}", f"runs:/{run_id}/model"),
        *(str(saved), f"{saved}/artifacts/classifier.pt"),
    ]
    for reference in references:
        loaded = load_classifier(reference, uri)
        assert isinstance(loaded, Classifier)
        assert np.array_equal(loaded.predict(some_features()), expected), reference
        assert loaded.calibration == 0.05


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("models:/mianet-numbers@runner-up", "must be in the store, but models:/mianet-numbers@"),
        ("models:/mianet-numbers/99", "must be in the store"),
        ("models:/mianet-none/1", "must be in the store"),
        ("models:/", "must be in the store"),
        ("runs:/0123456789abcdef", "must be in the store"),
        ("/nowhere", "there is no /nowhere"),
        ("s3://bucket/model", "there is no s3://bucket/model"),
    ],
)
def test_a_model_that_is_not_there_is_said_in_one_line(registered, reference, message):
    with pytest.raises(InputError, match=message) as error:
        load_classifier(reference, registered[0])
    assert len(str(error.value).splitlines()) == 1


def test_a_run_without_a_model_is_said(registered):
    uri, run_id, _ = registered
    client = MlflowClient(uri)
    bare = client.create_run(client.get_run(run_id).info.experiment_id).info.run_id
    with pytest.raises(InputError, match="must be a final training that registered a model"):
        load_classifier(f"runs:/{bare}", uri)


def test_code_that_comes_with_a_model_is_not_run(saved, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    trap = f"import os; os.mkdir({str(tmp_path / 'run')!r})\n"
    for file in [*folder.rglob("*.py")]:
        file.write_text(trap)
    assert load_classifier(str(folder), "not asked for").class_names == tuple("abcdef")
    assert not (tmp_path / "run").exists()


# Served


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def endpoint(registered, tmp_path_factory):
    """``mlflow models serve`` in a process group of its own, away from this project."""
    folder, port = tmp_path_factory.mktemp("served"), free_port()
    hidden = ("PYTHONPATH", "MLFLOW_TRACKING_URI")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    # mlflow calls the programs of its environment by name.
    environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environment["PATH"]
    command = (
        *(sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", MODEL),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, "MLFLOW_TRACKING_URI": registered[0], "CUDA_VISIBLE_DEVICES": ""},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def wait_until_healthy(address, process, log):
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(address, timeout=5),  # noqa: S310
        ):
            return
        time.sleep(0.2)
    pytest.fail(f"no server: {log.read_text()[-3000:]}")


def ask(endpoint, body, kind="application/json"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(endpoint, data, {"Content-Type": kind})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_served_model_answers_as_the_classifier(endpoint, registered):
    features, classifier = some_features(), registered[2]
    for options in ({}, {"mode": "zsl", "top_k": 2}, {"top_k": 6, "calibration": 0.4}):
        status, answer = ask(endpoint, {"inputs": features.tolist(), "params": options})
        assert status == 200
        assert rows_of(answer["predictions"]) == expected_rows(classifier, features, **options)


def test_a_served_model_takes_new_classes(endpoint, registered):
    features, vectors = some_features(), unit_vectors(1, seed=5)
    new = json.dumps({"g": vectors[0].tolist()})
    body = {"inputs": features.tolist(), "params": {"new_classes": new, "top_k": 7}}
    status, answer = ask(endpoint, body)
    assert status == 200
    larger = registered[2].add_classes(["g"], vectors)
    assert rows_of(answer["predictions"]) == expected_rows(larger, features, top_k=7)


def test_a_served_model_takes_a_parquet_file(endpoint, registered):
    features = some_features()
    table = pd.DataFrame(features, columns=[f"f{i}" for i in range(8)]).to_parquet()
    status, answer = ask(endpoint, table, "application/vnd.apache.parquet")
    assert status == 200, answer
    assert rows_of(answer["predictions"]) == expected_rows(registered[2], features)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"inputs": [[1.0] * 9]}, "(1, 9) does not match expected shape (-1, 8)"),
        ({"inputs": [[float("nan")] * 8]}, "features must be finite"),
        ({"inputs": [["a"] * 8]}, "a"),
        ({"inputs": [[1.0] * 8], "params": {"mode": "all"}}, "mode must be one of gzsl, zsl"),
        ({"inputs": [[1.0] * 8], "params": {"top_k": 9}}, "top_k must be from 1 to 6"),
    ],
)
def test_a_served_model_refuses_with_status_400(endpoint, body, message):
    status, answer = ask(endpoint, body)
    assert status == 400
    assert message in answer


def test_the_saved_tensors_are_on_the_cpu(saved):
    weights = torch.load(f"{saved}/artifacts/classifier.pt", weights_only=True)
    assert {tensor.device.type for tensor in weights["model"].values()} == {"cpu"}
