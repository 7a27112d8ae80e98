"""Contracts that every sampler of the table keeps."""

import math

import optuna
import pytest

from tuning.engine.samplers import SAMPLERS
from tuning.spec.space import search_space

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
