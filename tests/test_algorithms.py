"""Contracts that every sampler and every scheduler of the tables keeps."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import optuna
import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tuning.algorithms import BEST_EPOCH, EPOCH, SAMPLERS, SCHEDULERS, SCORE, StudyScheduler
from tuning.space import search_space

optuna.logging.set_verbosity(optuna.logging.ERROR)


def propose(sampler, count=14, seed=0, names=("alpha", "learning_rate", "latent_multiplier")):
    study = optuna.create_study(sampler=SAMPLERS[sampler].build(seed), direction="maximize")
    space, points = search_space(names), []
    for _ in range(count):
        trial = study.ask(space)
        points.append(trial.params)
        study.tell(trial, -abs(math.log10(trial.params["alpha"]) - 1))
    return points, space


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_repeats_the_proposals_and_another_one_does_not(sampler):
    first, again, other = (propose(sampler, seed=seed)[0] for seed in (3, 3, 4))
    assert first == again
    assert first != other


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposals_lie_in_the_space_and_differ(sampler):
    points, space = propose(sampler)
    for point in points:
        assert all(space[name].low <= value <= space[name].high for name, value in point.items())
    assert len({tuple(point.values()) for point in points}) == len(points)


@pytest.mark.parametrize("sampler", [name for name, s in SAMPLERS.items() if s.categorical])
def test_samplers_that_say_so_search_lists_too(sampler):
    points, _ = propose(sampler, names=("alpha", "latent_activation"))
    assert {point["latent_activation"] for point in points} == {"relu", "linear"}


@dataclass(frozen=True, eq=False)
class FakeTrial:
    trial_id: str
    config: dict
    status: str = "RUNNING"


def drive(scheduler, curves):
    """Feed curves epoch by epoch as Ray Tune does; return how long each was let run."""
    scheduler.set_search_properties(SCORE, "max")
    controller = SimpleNamespace(get_trials=list, get_live_trials=list)
    lasted = []
    for number, curve in enumerate(curves):
        trial = FakeTrial(str(number), {"alpha": number})
        scheduler.on_trial_add(controller, trial)
        for epoch in range(1, len(curve) + 1):
            best = max(curve[:epoch])
            result = {EPOCH: epoch, SCORE: best, BEST_EPOCH: curve.index(best) + 1}
            decision = scheduler.on_trial_result(controller, trial, result)
            if decision == TrialScheduler.STOP:
                break
        scheduler.on_trial_complete(controller, trial, result)
        lasted.append(epoch)
    return lasted


GOOD, BAD = [0.5 + 0.01 * e for e in range(20)], [0.1] * 20


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_good_trial_runs_to_its_end_and_a_bad_one_no_longer(scheduler):
    lasted = drive(SCHEDULERS[scheduler].build(20), [GOOD] * 6 + [BAD, GOOD])
    assert lasted[0] == 20
    assert lasted[6] < 20 or scheduler == "none"
    assert lasted[6] <= lasted[7]


@pytest.mark.parametrize("max_epochs", [1, 2, 9, 100])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_budget_of_epochs_can_be_scheduled(scheduler, max_epochs):
    lasted = drive(SCHEDULERS[scheduler].build(max_epochs), [[0.3] * max_epochs] * 3)
    assert lasted[0] == max_epochs


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_spared_configuration_runs_to_its_end_and_is_still_compared_with(scheduler):
    sparing = StudyScheduler(SCHEDULERS[scheduler].build(20), 100, {"alpha": 6})
    bare = SCHEDULERS[scheduler].build(20)
    curves = [GOOD] * 6 + [BAD, BAD]
    with_sparing, without = drive(sparing, curves), drive(bare, curves)
    assert with_sparing[6] == 20
    assert with_sparing[:6] == without[:6]
    assert with_sparing[7] == without[7]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_trial_whose_best_is_old_is_stopped_unless_it_is_spared(scheduler):
    peaked = [0.1, 0.9] + [0.2] * 18
    patient = StudyScheduler(SCHEDULERS[scheduler].build(20), 4, {"alpha": 1})
    assert drive(patient, [peaked, peaked]) == [6, 20]


def test_a_study_without_a_spared_configuration_spares_none():
    patient = StudyScheduler(FIFOScheduler(), 3, {})
    assert drive(patient, [BAD, BAD]) == [4, 4]
