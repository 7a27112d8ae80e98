"""A search of a published model as a user runs it, beside a model that is there already."""

import mlflow
import pytest
from commands import run

from tuning.tracking.reading import read_trials

pytestmark = [pytest.mark.timeout(420), pytest.mark.usefixtures("one_ray")]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eszsl")
    budget = ("--trials", "4", "--executions", "2", "--fresh-draws", "2", "--final-seeds", "2")
    options = ("--study", "first", "--seed", "5", *budget)
    return folder, run("search", "--dataset", "numbers", "--model", "eszsl", *options, cwd=folder)


def store_of(folder):
    return f"sqlite:///{folder / 'mlflow.db'}"


def test_it_is_searched_tested_and_compared_with_its_published_configuration(searched):
    _, ended = searched
    assert ended.returncode == 0, ended.stderr
    assert "\npaper: trial 3, " in ended.stdout
    assert "\nselected: trial " in ended.stdout
    _, names, _, *lines = ended.stdout.split("test: mean ± sd of 2 seeds")[1].splitlines()
    assert names.split() == ["paper", "selected"]
    assert all(line.endswith("±  0.0") for line in lines[:6]), "a closed form has no chance in it"


def test_its_trials_say_what_they_are_of_and_have_one_epoch(searched):
    folder, _ = searched
    trials = read_trials(store_of(folder), "numbers")
    assert {t.model for t in trials} == {"eszsl"}
    assert {n for t in trials if t.confirmation for n in t.confirmation.per_draw} == {2, 3}
    assert [(t.status, t.best_epoch, t.executions) for t in trials] == [("finished", 1, 2)] * 4
    last = max(trials, key=lambda t: t.number)
    assert last.origin == "paper"
    assert float(last.hyperparameters["feature_weight"]) == 1000


def test_the_model_that_people_use_stays_mianet(searched):
    folder, _ = searched
    assert mlflow.MlflowClient(store_of(folder)).search_registered_models() == []


@pytest.mark.parametrize("command", ["confirm", "final"])
def test_no_model_is_taken_for_another(searched, command):
    folder, _ = searched
    ended = run(command, "--dataset", "numbers", cwd=folder)
    assert ended.returncode == 2
    assert "selection needs trials of the model mianet" in ended.stderr
    assert "there are only trials of eszsl; give another --model" in ended.stderr


def test_a_resumed_study_keeps_its_model(searched):
    folder, _ = searched
    more = ("--trials", "4", "--fresh-draws", "0", "--no-final")
    ended = run("search", "--resume", "first", *more, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    trials = read_trials(store_of(folder), "numbers")
    assert sorted((t.number, t.model) for t in trials) == [(n, "eszsl") for n in range(4)]
