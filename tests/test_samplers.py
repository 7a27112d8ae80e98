"""Contracts that every sampler of the table keeps."""

import math

import optuna
import pytest

from tuning.engine.samplers import SAMPLERS
from tuning.spec.space import search_space

optuna.logging.set_verbosity(optuna.logging.ERROR)


def propose(sampler, count=12, seed=0, names=("alpha", "learning_rate", "latent_multiplier")):
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


def test_tpe_starts_with_the_points_of_sobol_however_many_run_at_once():
    """Ten trials run at once; then each ends as the next begins."""
    space = search_space(("alpha", "learning_rate", "latent_multiplier"))
    studies = {
        name: optuna.create_study(sampler=SAMPLERS[name].build(5), direction="maximize")
        for name in ("tpe", "qmc")
    }
    proposed = {}
    for name, study in studies.items():
        running = [study.ask(space) for _ in range(10)]
        trials = [*running]
        for trial in running:
            study.tell(trial, trial.params["alpha"])
            trials.append(study.ask(space))
        proposed[name] = [trial.params for trial in trials]
    assert proposed["tpe"][1:19] == proposed["qmc"][1:19]
    assert proposed["tpe"][19] != proposed["qmc"][19]
