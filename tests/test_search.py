"""A search as a user runs it, to the registered model, on a real Ray and a real MLflow store."""

import json
import math
import re
import sqlite3
import time
from collections import Counter

import mlflow
import numpy as np
import optuna
import pyarrow.parquet as pq
import pytest
from commands import SMALL, fork, run
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from pages import Page
from ray.cluster_utils import Cluster

from mianet.data.search_data import load_search_data
from mianet.data.test_parts import load_test_parts
from mianet.protocol import TRAINED_SHARE
from tuning.spec.objectives import OBJECTIVES
from tuning.tracking.model_registry import load_classifier
from tuning.tracking.reading import read_study, read_trials

pytestmark = pytest.mark.timeout(420)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A finished search of three trials with its final training, and the folder it ran in."""
    folder = tmp_path_factory.mktemp("searched")
    options = ("--trials", "3", "--study", "first", "--final-seeds", "2", *SMALL)
    options += ("--fresh-draws", "3", "--max-epochs", "8", "--range", "learning_rate=1e-4:1e-3")
    return folder, run("search", "--dataset", "Numbers", *options, cwd=folder)


def store_of(folder):
    return f"sqlite:///{folder / 'mlflow.db'}"


def runs_of(folder):
    client = mlflow.MlflowClient(store_of(folder))
    ids = [e.experiment_id for e in client.search_experiments()]
    return {r.info.run_name: r for r in client.search_runs(ids)}


def test_it_ends_well_and_prints_both_configurations(searched):
    _, ended = searched
    assert ended.returncode == 0, ended.stderr
    assert "3/3" in ended.stdout
    assert "\npaper: trial 2, " in ended.stdout
    assert "\nselected: trial " in ended.stdout
    _, names, headings, *lines = ended.stdout.split("test: mean ± sd of 2 seeds")[1].splitlines()
    assert names.split() == ["paper", "selected"]
    assert headings.split() == ["validation", "fresh", "test"] * 2
    assert [line.count("±") for line in lines[:6]] == [2, 2, 2, 2, 4, 2]  # AUSUC has fresh draws
    assert "Traceback" not in ended.stdout + ended.stderr


def test_it_ends_with_what_was_found_and_where_it_is(searched):
    folder, process = searched
    path = folder / "ray_results" / "first" / "report.html"
    block, table = process.stdout[process.stdout.index("\nfound   ") :].split("\n\n")
    labels = re.findall(r"^(\w+) +", block, flags=re.MULTILINE)
    assert labels == ["found", "against", "model", "report", "MLflow", "next"]
    assert f"report  {path}" in block.splitlines()
    assert table.startswith("paper: trial ")
    long = [line for line in process.stdout.splitlines() if len(line) > 100]
    assert all("http://" in line or "/" in line for line in long), long
    page = Page(path.read_text(encoding="utf-8"))
    assert "on the test parts" in page.heading
    assert all(page.count(name, "svg") for name in ("history", "curves", "confusion", "bias"))
    assert "\x1b" not in process.stdout


def test_the_final_training_keeps_the_confusion_and_the_curve_of_its_test(searched):
    parts = load_test_parts("numbers")
    for final in read_study(store_of(searched[0]), "numbers").finals.values():
        classes, unseen = final.confusion, np.array(final.confusion.unseen)
        labels = np.concatenate([parts.test_seen_labels, parts.test_unseen_labels])
        counts = np.bincount(labels, minlength=len(parts.class_names))
        order = [parts.class_names.index(name) for name in classes.names]
        assert classes.counts.sum(axis=1).tolist() == (2 * counts[order]).tolist(), "two seeds"
        rates = classes.shares.diagonal()
        for name, chosen in (("seen_accuracy", ~unseen), ("unseen_accuracy", unseen)):
            mean = final.figures[f"test_{name}_mean"]
            assert rates[chosen].mean() == pytest.approx(mean)
            place = ("seen_accuracy", "unseen_accuracy").index(name)
            at_zero = [curve.at(np.zeros(1))[place][0] for curve in final.curves.values()]
            assert np.mean(at_zero) == pytest.approx(mean)
        areas = [curve.area for curve in final.curves.values()]
        assert np.mean(areas) == pytest.approx(final.figures["test_ausuc_mean"])


def test_the_record_is_whole_and_nested(searched, tmp_path):
    folder, _ = searched
    runs = runs_of(folder)
    parent = runs.pop("first")
    kinds = Counter(run.data.tags["kind"] for run in runs.values())
    assert (kinds["trial"], kinds["final"]) == (3, 2)
    assert kinds["confirmation"] >= 1
    assert {r.data.tags["mlflow.parentRunId"] for r in runs.values()} == {parent.info.run_id}
    assert {r.info.status for r in [parent, *runs.values()]} == {"FINISHED"}
    client = mlflow.MlflowClient(store_of(folder))
    table = pq.read_table(
        client.download_artifacts(parent.info.run_id, "executions.parquet", str(tmp_path))
    ).to_pylist()
    for name, trial in ((n, r) for n, r in runs.items() if n.startswith("trial")):
        curve = client.get_metric_history(trial.info.run_id, "val_ausuc_smoothed")
        steps = [point.step for point in curve]
        assert steps == list(range(1, len(steps) + 1)), name
        assert trial.data.metrics["score"] == max(point.value for point in curve)
        assert math.isfinite(float(trial.data.params["alpha"]))
        executions = json.loads(trial.data.tags["executions"])
        rows = [row for row in table if row["trial"] == int(trial.data.tags["number"])]
        assert [(row["epoch"], row["execution"]) for row in rows] == [
            (step, execution) for step in steps for execution in (0, 1)
        ]
        best = int(trial.data.metrics["best_epoch"])
        at_best = {str(r["execution"]): r["val_ausuc"] for r in rows if r["epoch"] == best}
        assert executions == at_best
        values = [point.value for point in curve]
        epochs = OBJECTIVES["ausuc"].final_epochs(values, TRAINED_SHARE)
        assert trial.data.metrics["final_epochs"] == epochs
    for final in (one for one in runs.values() if one.data.tags["kind"] == "final"):
        source = client.get_run(final.data.tags["source_run_id"])
        assert float(final.data.params["epochs"]) == source.data.metrics["final_epochs"]


def test_the_optuna_study_agrees_with_the_record(searched):
    folder, _ = searched
    file = folder / "ray_results" / "first" / "optuna.log"
    study = optuna.load_study(
        study_name="first", storage=JournalStorage(JournalFileBackend(str(file)))
    )
    assert study.user_attrs["mlflow_run_id"] == read_study(store_of(folder), "numbers").run_id
    recorded = read_trials(store_of(folder), "numbers", "first")
    for trial, known in zip(study.get_trials(), recorded, strict=True):
        assert trial.user_attrs["mlflow_run_id"] == known.run_id
        assert (trial.number, trial.value) == (known.number, known.score)
        assert trial.user_attrs["status"] == known.status
        assert trial.user_attrs["best_epoch"] == known.best_epoch
        assert {n: str(v) for n, v in trial.params.items()}.items() <= known.hyperparameters.items()
        for name, value in known.metrics.items():
            assert trial.user_attrs[f"best_{name}"] == value


def test_the_last_of_few_trials_is_the_papers_and_runs_to_its_end(searched):
    last = max(read_trials(store_of(searched[0]), "numbers"), key=lambda t: t.number)
    assert (last.number, last.origin, last.status) == (2, "paper", "finished")
    assert float(last.hyperparameters["alpha"]) == 1000
    assert float(last.hyperparameters["latent_multiplier"]) == 2


def test_the_registered_model_loads_and_names_numbers(searched):
    folder, _ = searched
    mlflow.set_tracking_uri(store_of(folder))
    model = mlflow.pyfunc.load_model("models:/mianet-numbers@champion")
    features = np.array(load_search_data("numbers").features[:7])
    answers = model.predict(features)
    assert len(answers) == 7
    assert set(answers["class"]) <= {f"{number:02}" for number in range(100)}


@pytest.mark.usefixtures("one_ray")
def test_final_alone_works_later_elsewhere_with_the_constant_of_the_search(searched, tmp_path):
    folder, _ = searched
    uri = store_of(folder)
    options = ("--tracking-uri", uri, "--seeds", "1")
    ended = run("final", "--dataset", "numbers", *options, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "version 2 as champion" in ended.stdout
    assert "calibrated H" in ended.stdout
    assert list(tmp_path.iterdir()) == []

    client = mlflow.MlflowClient(uri)
    version = client.get_model_version_by_alias("mianet-numbers", "champion")
    final = client.get_run(version.run_id).data
    constant = float(final.params["calibration"])
    trial = {t.run_id: t for t in read_trials(uri, "numbers")}[final.tags["source_run_id"]]
    assert trial.confirmation is not None
    assert constant == pytest.approx(trial.confirmation.calibration)
    classifier = load_classifier("models:/mianet-numbers@champion", uri)
    assert classifier.calibration == pytest.approx(constant)

    parts = load_test_parts("numbers")
    accuracies = [
        np.mean([np.mean(found[labels == c] == c) for c in set(labels.tolist())])
        for found, labels in (
            (classifier.classify(parts.test_seen_features).classes[:, 0], parts.test_seen_labels),
            (
                classifier.classify(parts.test_unseen_features).classes[:, 0],
                parts.test_unseen_labels,
            ),
        )
    ]
    for name, value in zip(("seen_accuracy", "unseen_accuracy"), accuracies, strict=True):
        recorded = final.metrics[f"test_calibrated_{name}_mean"]
        assert recorded == pytest.approx(value, abs=0.01)  # an image on the edge may differ
    assert 0 <= final.metrics["test_ausuc_mean"] <= 1


@pytest.mark.usefixtures("one_ray")
def test_it_begins_with_what_an_earlier_study_found(searched, tmp_path):
    uri = store_of(searched[0])
    options = ("--tracking-uri", uri, "--study", "warm", "--warm-start", "numbers/first")
    options += ("--trials", "3", "--no-final", "--fresh-draws", "0", "--objective", "both", *SMALL)
    ended = run("search", "--dataset", "numbers", *options, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "Pareto front when searched: trial" in ended.stdout
    first = {t.number: t.hyperparameters for t in read_trials(uri, "numbers", "first")}
    trials = read_trials(uri, "numbers", "warm")
    assert {t.objective for t in trials} == {"both"}
    assert trials[2].origin == "paper"
    for trial in trials[:2]:
        study, number = trial.origin.split(" trial ")
        assert study == "numbers/first"
        assert trial.hyperparameters == first[int(number)]
    recorded = read_study(uri, "numbers", "warm").settings["warm_start"]
    assert all(trial.origin in recorded for trial in trials[:2])


@pytest.mark.usefixtures("one_ray")
def test_one_worker_and_a_seed_repeat_a_search(tmp_path):
    options = ("--trials", "4", "--workers", "1", "--cpus-per-trial", "1", "--seed", "5")
    options += ("--no-final", *SMALL)
    both = {
        name: fork("search", "--dataset", "numbers", "--study", name, *options, cwd=tmp_path)
        for name in ("a", "b")
    }
    outcomes = []
    for name, process in both.items():
        process.join(240)
        assert process.exitcode == 0, (tmp_path / "output").read_text()
        trials = sorted(read_trials(store_of(tmp_path), "numbers", name), key=lambda t: t.number)
        outcomes.append([(t.hyperparameters, t.score, t.best_epoch, t.status) for t in trials])
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) == 4


@pytest.mark.usefixtures("one_ray")
def test_a_diverged_trial_is_recorded_as_infeasible_and_the_search_goes_on(tmp_path):
    options = ("--range", "learning_rate=1e15:1e30", "--search", "learning_rate", "--trials", "3")
    ended = run("search", "--dataset", "numbers", *options, *SMALL, cwd=tmp_path)
    assert ended.returncode == 1
    assert "error: no trial completed successfully" in ended.stderr
    trials = read_trials(store_of(tmp_path), "numbers")
    assert [t.status for t in trials] == ["infeasible"] * 3


@pytest.mark.usefixtures("one_ray")
def test_a_time_budget_ends_the_search_and_the_best_is_still_selected(tmp_path):
    options = ("--trials", "5000", "--time-budget", "3s", "--final-seeds", "1", *SMALL)
    begun = time.monotonic()
    ended = run("search", "--dataset", "numbers", *options, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert time.monotonic() - begun < 120
    assert "registered mianet-numbers" in ended.stdout
    assert still_running(tmp_path) == 0


A_DAY_LATE = """
import time
now, now_ns = time.time, time.time_ns
time.time = lambda: now() + 86400
time.time_ns = lambda: now_ns() + 86400 * 10**9
"""


def test_a_running_cluster_of_several_nodes_is_used_whatever_their_clocks_say(
    tmp_path, monkeypatch
):
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "sitecustomize.py").write_text(A_DAY_LATE)
    begun = time.time()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        with monkeypatch.context() as patch:
            patch.setenv("PYTHONPATH", str(tmp_path / "late"))
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        options = ("--trials", "8", "--no-final", *SMALL)
        ended = run(
            "search", "--dataset", "numbers", *options, cwd=tmp_path, RAY_ADDRESS=cluster.address
        )
        assert ended.returncode == 0, ended.stderr
        assert f"2 at once on the Ray cluster at {cluster.address}" in " ".join(
            ended.stdout.split()
        )
        assert len(read_trials(store_of(tmp_path), "numbers")) == 8
        runs = [run.info for run in runs_of(tmp_path).values()]
        times = [time_ms for run in runs for time_ms in (run.start_time, run.end_time)]
        assert all(begun <= milliseconds / 1000 <= time.time() for milliseconds in times)
    finally:
        cluster.shutdown()


def still_running(folder):
    with sqlite3.connect(folder / "mlflow.db") as database:
        return database.execute("select count(*) from runs where status = 'RUNNING'").fetchone()[0]
