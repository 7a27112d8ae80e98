"""Confirmation: fresh draws for those that cannot be told apart, and the choice by them."""

from dataclasses import dataclass

import mlflow
import numpy as np
import pytest
from commands import SMALL, run
from test_selection import a_trial
from worlds import validate

from mianet.config import Hyperparameters
from mianet.data.search_data import load_search_data
from mianet.evaluation import summarise
from mianet.validation import score_execution
from tuning.analysis.selection import select
from tuning.engine.confirmation import MOST_CONTENDERS, contenders, halve
from tuning.spec.records import Confirmation
from tuning.tracking.reading import read_trials

DIFFICULTY = np.random.default_rng(3).normal(0, 0.05, 5)


def searched(number, mean, noise=0.0, **changes):
    """Return a trial whose executions share their difficulty with every other's."""
    own = np.random.default_rng(number).normal(0, noise, 5) if noise else np.zeros(5)
    values = mean + DIFFICULTY + own - own.mean()
    return a_trial(
        number=number,
        run_id=f"r{number}",
        score=float(values.mean()),
        per_execution=dict(enumerate(values.tolist())),
        **changes,
    )


def confirmed(trial, values, first=5):
    fresh = Confirmation(per_draw=dict(enumerate(values, start=first)), metrics={})
    return a_trial(**{**vars(trial), "confirmation": fresh})


def test_contenders_are_those_that_the_shared_draws_cannot_tell_from_the_best():
    best = searched(0, 0.30, 0.01)
    near, far = searched(1, 0.295, 0.02), searched(2, 0.20, 0.01)
    assert [t.number for t in contenders([best, near, far])] == [0, 1]


def test_the_papers_is_confirmed_too_and_their_number_is_bounded():
    many = [searched(n, 0.3 - 1e-4 * n, 0.05) for n in range(20)]
    paper = searched(20, 0.05, origin="paper")
    chosen = contenders([*many, paper])
    assert [t.number for t in chosen] == [*range(MOST_CONTENDERS), 20]
    assert [t.number for t in contenders([paper])] == [20]


def test_fresh_draws_overrule_the_score():
    lucky = confirmed(searched(0, 0.30), [0.10, 0.12, 0.11])
    solid = confirmed(searched(1, 0.28), [0.26, 0.27, 0.25])
    never = searched(2, 0.29)
    selection = select([lucky, solid, never])
    assert [t.number for t in selection.compared] == [1, 0]
    assert selection.confirmed
    assert "fresh draws" in selection.why
    assert "cannot be told apart" not in selection.why


def test_it_says_when_the_second_cannot_be_told_apart():
    first = confirmed(searched(0, 0.30), [0.20, 0.30, 0.25])
    second = confirmed(searched(1, 0.28), [0.29, 0.20, 0.25])
    assert "cannot be told apart" in select([first, second]).why


def test_who_met_most_draws_is_chosen_and_the_others_follow_by_shared_draws():
    """Draws that only the better half meets may be easier than those that all met."""
    out = confirmed(searched(0, 0.30), [0.25, 0.25])
    first = confirmed(searched(1, 0.29), [0.27, 0.27, 0.10, 0.10])
    last = confirmed(searched(2, 0.20, origin="paper"), [0.15, 0.15, 0.05, 0.05])
    selection = select([out, first, last])
    assert [t.number for t in selection.compared] == [1, 0, 2]


def halved(scores, most, paper=None, diverges=()):
    """Return who met how many draws, by ``halve`` over contenders with these scores."""

    @dataclass(frozen=True)
    class One:
        number: int
        is_paper: bool

    met = {}

    def evaluate(left, count):
        met.update((one.number, count) for one in left)
        able = [one for one in left if one.number not in diverges]
        return sorted(able, key=lambda one: -scores[one.number])

    contenders = [One(n, n == paper) for n in range(len(scores))]
    outs = list(halve(contenders, most, evaluate))
    assert sorted(one.number for out in outs for one in out) == list(range(len(scores)))
    return met


def test_the_better_half_goes_on_and_the_papers_with_it():
    assert halved([7, 6, 5, 4, 3, 2, 1], 10) == {0: 10, 1: 8, 2: 4, 3: 4, 4: 2, 5: 2, 6: 2}
    assert halved([7, 6, 5, 4, 3, 2, 1], 10, paper=6) == {
        0: 10,
        1: 8,
        2: 4,
        3: 2,
        4: 2,
        5: 2,
        6: 10,
    }
    assert halved([2, 1], 10, paper=1) == {0: 10, 1: 10}
    assert halved([1], 3) == {0: 3}
    assert halved([3, 2, 1], 1) == {0: 1, 1: 1, 2: 1}


def test_who_diverges_leaves_its_place_to_the_next():
    assert halved([9, 6, 5, 4], 8, diverges=[0]) == {0: 2, 1: 8, 2: 4, 3: 2}


def test_a_fresh_execution_is_what_a_longer_validation_would_have_met():
    data = load_search_data("numbers")
    settings = Hyperparameters(hidden_dim=32)
    *_, last = validate(data, settings, epochs=2, executions=3, seed=1)
    alone = score_execution(data, settings, epochs=2, execution=2, seed=1)
    (metrics,) = summarise([alone], last.calibration).executions
    assert list(metrics.as_dict().values()) == pytest.approx(
        list(last.executions[2].as_dict().values())
    )


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("one_ray")
def test_a_finished_study_is_confirmed_by_a_command_once(tmp_path):
    options = ("--trials", "3", "--study", "s", "--no-final", *SMALL)
    assert run("search", "--dataset", "numbers", *options, cwd=tmp_path).returncode == 0
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert all(t.confirmation is None for t in read_trials(uri, "numbers"))
    assert not select(read_trials(uri, "numbers")).confirmed
    ended = run("confirm", "--dataset", "numbers", "--draws", "3", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "fresh draws" in ended.stdout
    trials = read_trials(uri, "numbers")
    fresh = [t for t in trials if t.confirmation]
    assert {t.origin for t in fresh} >= {"paper"}
    met = sorted(tuple(sorted(t.confirmation.per_draw)) for t in fresh)
    assert set(met) <= {(2, 3), (2, 3, 4)}
    chosen = select(trials)
    assert set(chosen.trial.confirmation.per_draw) == {2, 3, 4}
    assert set(chosen.paper.confirmation.per_draw) == {2, 3, 4}
    assert all(
        t.confirmation.metrics["val_ausuc"] == pytest.approx(t.confirmation.score) for t in fresh
    )
    client = mlflow.MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    recorded = client.search_runs(experiments, "tags.kind = 'confirmation'")
    assert len(recorded) == len(fresh)
    parents = {run.data.tags["mlflow.parentRunId"] for run in recorded}
    assert parents == {trial.study_run_id for trial in fresh}
    assert {run.info.status for run in recorded} == {"FINISHED"}
    again = run("confirm", "--dataset", "numbers", "--draws", "3", cwd=tmp_path)
    assert "nothing to do" in again.stdout
    assert select(read_trials(uri, "numbers")).confirmed
