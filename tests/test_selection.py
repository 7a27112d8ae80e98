"""Selection: the best of the comparable, complete trials, for a stated reason."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mianet.config import Hyperparameters
from mianet.errors import InputError
from tuning.analysis.selection import select
from tuning.spec.models import read_settings
from tuning.spec.records import (
    SELECTABLE,
    STATUSES,
    RecordedTrial,
    canonical_json,
    mean_and_sd,
    protocol_key,
)

PROTOCOL = {"executions": 5, "seed": 0}


def a_trial(**changes: Any) -> RecordedTrial:
    values: dict[str, Any] = {
        "run_id": "r0",
        "study": "first",
        "study_run_id": "s0",
        "study_started": 1000,
        "number": 0,
        "status": "finished",
        "origin": "tpe",
        "hyperparameters": {"model": "mianet", "alpha": "10.0"},
        "score": 0.5,
        "best_epoch": 3,
        "final_epochs": 2,
        "executions": 5,
        "planned_executions": 5,
        "protocol": PROTOCOL,
        "data_digest": "d" * 64,
        "started": 2000,
        "objective": "harmonic_mean",
    }
    return RecordedTrial(**{**values, **changes})


@st.composite
def trials(draw: st.DrawFn) -> list[RecordedTrial]:
    """Draw trials of a few studies, protocols and data versions; many scores are equal."""
    studies = [
        {
            "study": draw(st.sampled_from(["first", "second"])),
            "study_run_id": f"s{number}",
            "study_started": draw(st.integers(0, 3)),
            "protocol": {**PROTOCOL, "seed": draw(st.integers(0, 1))},
            "data_digest": draw(st.sampled_from(["d" * 64, "e" * 64])),
        }
        for number in range(draw(st.integers(1, 4)))
    ]
    scores = st.one_of(st.sampled_from([0.1, 0.2, math.nan, math.inf]), st.floats(0, 1))
    return [
        a_trial(
            run_id=f"r{number}",
            number=number,
            status=draw(st.sampled_from([*STATUSES, "running"])),
            origin=draw(st.sampled_from(["paper", "tpe"])),
            score=draw(scores),
            executions=draw(st.sampled_from([4, 5])),
            started=draw(st.integers(0, 5)),
            **draw(st.sampled_from(studies)),
        )
        for number in range(draw(st.integers(1, 12)))
    ]


def eligible(trial: RecordedTrial) -> bool:
    return (
        trial.status in ("finished", "stopped_early")
        and math.isfinite(trial.score)
        and trial.executions == 5
    )


@given(trials(), st.randoms(use_true_random=False))
def test_the_choice_is_the_best_of_the_comparable(given_trials, random):
    newest = max(given_trials, key=lambda t: (t.study_started, t.study_run_id, t.started))
    world = [
        t
        for t in given_trials
        if t.protocol == newest.protocol and t.data_digest == newest.data_digest and eligible(t)
    ]
    if not world:
        with pytest.raises(InputError, match="selection needs a "):
            select(given_trials)
        return
    chosen = select(given_trials)
    assert chosen.trial in world
    assert all(
        (chosen.trial.score, -chosen.trial.started) >= (other.score, -other.started)
        for other in world
    )
    assert len(chosen.compared) == len(world)
    assert (chosen.paper is None) == all(t.origin != "paper" for t in world)

    shuffled = random.sample(given_trials, len(given_trials))
    assert select(shuffled).trial == chosen.trial, "the order of reading must not matter"

    worlds = {(protocol_key(t.protocol), t.data_digest) for t in given_trials}
    assert ("left out" in chosen.why) == (len(worlds) > 1)


@given(trials())
def test_a_trial_that_may_not_be_chosen_changes_nothing(given_trials):
    candidates = [t for t in given_trials if eligible(t)]
    if not candidates:
        return
    chosen = select(candidates)
    spoiler = dataclasses.replace(
        chosen.trial, run_id="spoiler", score=2.0, executions=4, status="stopped_early"
    )
    assert select([*candidates, spoiler]).trial == chosen.trial


@pytest.mark.parametrize("status", [*STATUSES, "running"])
def test_only_good_ends_count(status):
    better = a_trial(run_id="better", status=status, score=0.9)
    expected = "better" if status in SELECTABLE else "r0"
    assert select([a_trial(), better]).trial.run_id == expected


def test_a_named_study_and_the_data_at_hand_narrow_the_choice():
    first = a_trial(run_id="a", score=0.9)
    second = a_trial(
        run_id="b", study="second", study_run_id="s1", study_started=5000, data_digest="e" * 64
    )
    assert select([first, second]).trial is second
    assert select([first, second], study="first").trial is first
    assert select([first, second], data_digest="d" * 64).trial is first


def test_trials_of_one_model_are_chosen_from():
    ours = a_trial(run_id="ours")
    theirs = a_trial(run_id="theirs", score=0.9, hyperparameters={"model": "eszsl"})
    assert select([ours, theirs]).trial is ours
    chosen = select([ours, theirs], model="eszsl")
    assert chosen.trial is theirs
    assert chosen.trial.model == "eszsl"
    with pytest.raises(InputError, match="only trials of eszsl, mianet; give another --model"):
        select([ours, theirs], model="sae")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trials": []}, "run a search first"),
        ({"trials": [a_trial()], "study": "other"}, "one of first, but got 'other'"),
        ({"trials": [a_trial()], "data_digest": "f" * 64}, "other data .dddddddddddd."),
        (
            {
                "trials": [
                    a_trial(status="failed", score=math.nan, executions=0),
                    a_trial(status="infeasible"),
                    a_trial(status="infeasible"),
                ]
            },
            "3 trials .1 failed, 2 infeasible; 1 without all executions",
        ),
    ],
)
def test_nothing_to_choose_from_says_what_there_is(arguments, message):
    with pytest.raises(InputError, match=message) as error:
        select(**arguments)
    assert "\n" not in str(error.value)


def test_the_chosen_configuration_is_the_recorded_one():
    wanted = Hyperparameters(alpha=3.3e-5, learning_rate=1 / 3, orthogonal=False, strategy="joint")
    recorded = {name: str(value) for name, value in wanted.as_dict().items()}
    chosen = select([a_trial(hyperparameters=recorded, best_epoch=17)])
    assert read_settings(chosen.trial.hyperparameters) == wanted
    assert chosen.trial.best_epoch == 17


def test_a_configuration_of_another_version_is_refused():
    with pytest.raises(InputError, match="'delta' is not a hyperparameter"):
        read_settings(a_trial(hyperparameters={"model": "mianet", "delta": "1"}).hyperparameters)


JSON_VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.text(min_size=1, max_size=5), JSON_VALUES, max_size=5))
def test_a_protocol_keeps_its_key_when_it_is_read_back(protocol):
    reordered = dict(reversed(list(json.loads(canonical_json(protocol)).items())))
    assert protocol_key(reordered) == protocol_key(protocol)


def test_protocols_that_differ_have_different_keys():
    assert protocol_key(PROTOCOL) != protocol_key({**PROTOCOL, "seed": 1})


def test_mean_and_sd_are_over_the_seeds():
    figures = mean_and_sd([{"h": 0.1}, {"h": 0.2}, {"h": 0.6}])
    assert figures == pytest.approx({"h_mean": 0.3, "h_sd": math.sqrt(0.07)})
    assert mean_and_sd([{"h": 0.5}]) == {"h_mean": 0.5}, "one seed has no deviation"
    assert mean_and_sd([]) == {}


def test_selection_needs_neither_ray_nor_mlflow():
    script = "import sys, tuning.analysis.selection; print({'ray', 'mlflow'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"
