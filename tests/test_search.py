"""A search as a user runs it, to the registered model, on a real Ray and a real MLflow store."""

import math
import os
import signal
import sqlite3
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
from commands import SMALL, run, start
from ray.cluster_utils import Cluster

from mianet.data import load_search_data
from tuning.recording import read_trials

pytestmark = pytest.mark.timeout(420)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A finished search of three trials with its final training, and the folder it ran in."""
    folder = tmp_path_factory.mktemp("searched")
    options = ("--trials", "3", "--study", "first", "--final-seeds", "2", *SMALL)
    return folder, run("search", "--dataset", "Digits", *options, cwd=folder)


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
    paper, selected = ended.stdout.split("test (mean ± sd of 2 seeds)")[1].splitlines()[2:4]
    assert paper.startswith("paper (trial 0)")
    assert selected.startswith("selected (trial")
    assert paper.count("±") == selected.count("±") == 4
    assert "Traceback" not in ended.stdout + ended.stderr


def test_the_record_is_whole_and_nested(searched):
    folder, _ = searched
    runs = runs_of(folder)
    parent = runs.pop("first")
    assert len(runs) == 5  # three trials, two final trainings
    assert {r.data.tags["mlflow.parentRunId"] for r in runs.values()} == {parent.info.run_id}
    assert {r.info.status for r in [parent, *runs.values()]} == {"FINISHED"}
    client = mlflow.MlflowClient(store_of(folder))
    for name, trial in ((n, r) for n, r in runs.items() if n.startswith("trial")):
        curve = client.get_metric_history(trial.info.run_id, "val_harmonic_mean")
        steps = [point.step for point in curve]
        assert steps == list(range(1, len(steps) + 1)), name
        assert trial.data.metrics["score"] == max(point.value for point in curve)
        assert math.isfinite(float(trial.data.params["alpha"]))
        executions = [m for m in trial.data.metrics if m.startswith("val_harmonic_mean_execution")]
        assert len(executions) == 2


def test_the_first_trial_is_the_papers_and_runs_to_its_end(searched):
    first = min(read_trials(store_of(searched[0]), "digits"), key=lambda t: t.number)
    assert (first.origin, first.status) == ("paper", "finished")
    assert float(first.hyperparameters["alpha"]) == 1000
    assert float(first.hyperparameters["latent_multiplier"]) == 2


def test_the_registered_model_loads_and_names_digits(searched):
    folder, _ = searched
    mlflow.set_tracking_uri(store_of(folder))
    model = mlflow.pyfunc.load_model("models:/mianet-digits@champion")
    features = np.array(load_search_data("digits").features[:7])
    answers = model.predict(features)
    assert len(answers) == 7
    assert set(answers["class"]) <= set("0123456789")


def test_final_alone_works_later_from_another_folder(searched, tmp_path):
    folder, _ = searched
    options = ("--tracking-uri", store_of(folder), "--seeds", "1")
    ended = run("final", "--dataset", "digits", *options, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "version 2 as champion" in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_one_worker_and_a_seed_repeat_a_search(tmp_path):
    options = ("--trials", "4", "--workers", "1", "--seed", "5", "--no-final", *SMALL)
    outcomes = []
    for name in ("a", "b"):
        ended = run("search", "--dataset", "digits", "--study", name, *options, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        trials = sorted(read_trials(store_of(tmp_path), "digits", name), key=lambda t: t.number)
        outcomes.append([(t.hyperparameters, t.score, t.best_epoch, t.status) for t in trials])
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) == 4


def test_a_diverged_trial_is_recorded_as_infeasible_and_the_search_goes_on(tmp_path):
    options = ("--range", "learning_rate=1e5:1e30", "--search", "learning_rate", "--trials", "3")
    ended = run("search", "--dataset", "digits", *options, *SMALL, cwd=tmp_path)
    assert ended.returncode == 1
    assert "error: no trial ended well" in ended.stderr
    trials = read_trials(store_of(tmp_path), "digits")
    assert [t.status for t in trials] == ["infeasible"] * 3


def test_a_time_budget_ends_the_search_and_the_best_is_still_selected(tmp_path):
    options = ("--trials", "5000", "--time-budget", "25s", "--final-seeds", "1", *SMALL)
    begun = time.monotonic()
    ended = run("search", "--dataset", "digits", *options, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert time.monotonic() - begun < 120
    assert "registered mianet-digits" in ended.stdout
    assert still_running(tmp_path) == 0


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_running(tmp_path, sign):
    options = ("--trials", "5000", "--no-final", *SMALL)
    process = start("search", "--dataset", "digits", *options, cwd=tmp_path)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "3/5000" in line:
            break
    os.kill(process.pid, sign)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert still_running(tmp_path) == 0
    assert read_trials(store_of(tmp_path), "digits")


def test_a_killed_worker_costs_its_trial_and_not_the_search(tmp_path):
    options = ("--trials", "12", "--scheduler", "none", "--no-final", *SMALL)
    process = start("search", "--dataset", "digits", *options, cwd=tmp_path)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "3/12" in line:
            os.kill(workers_of(process.pid)[0], signal.SIGKILL)
            break
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    trials = read_trials(store_of(tmp_path), "digits")
    assert len(trials) == 12
    failed = [t for t in trials if t.status == "failed"]
    assert len(failed) == 1
    assert "failed after" in "".join(lines) + out
    failure = runs_of(tmp_path)[f"trial {failed[0].number:03d}"]
    assert failure.info.status == "FAILED"
    assert "died" in failure.data.tags["reason"]
    assert still_running(tmp_path) == 0


def test_a_running_cluster_of_several_nodes_is_used(tmp_path):
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        options = ("--trials", "8", "--no-final", *SMALL)
        ended = run(
            "search", "--dataset", "digits", *options, cwd=tmp_path, RAY_ADDRESS=cluster.address
        )
        assert ended.returncode == 0, ended.stderr
        assert f"2 at once on the Ray cluster at {cluster.address}" in ended.stdout
        assert len(read_trials(store_of(tmp_path), "digits")) == 8
    finally:
        cluster.shutdown()


def workers_of(driver):
    """Return the processes that train for a driver: its descendants that Ray named so."""
    parents, names = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            names[int(entry.name)] = (entry / "cmdline").read_bytes()
            parents[int(entry.name)] = int(
                (entry / "stat").read_text().rpartition(")")[2].split()[1]
            )
        except OSError:
            continue  # it has ended meanwhile
    family = {driver}
    for _ in range(5):
        family |= {pid for pid, parent in parents.items() if parent in family}
    return [pid for pid in family if names.get(pid, b"").startswith(b"ray::ImplicitFunc")]


def still_running(folder):
    with sqlite3.connect(folder / "mlflow.db") as database:
        return database.execute("select count(*) from runs where status = 'RUNNING'").fetchone()[0]
