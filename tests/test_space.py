"""The table of searched hyperparameters."""

import typing

import pytest
from optuna.distributions import CategoricalDistribution

from mianet.config import Hyperparameters
from mianet.data.datasets import DATASETS
from mianet.data.search_data import paper_hyperparameters
from mianet.errors import InputError
from tuning.spec.models import MODELS
from tuning.spec.space import (
    SEARCH_SPACE,
    contains,
    describe,
    search_space,
    space_from_json,
    space_to_json,
)


@pytest.mark.parametrize("name", SEARCH_SPACE)
def test_every_entry_is_a_hyperparameter_whose_whole_range_is_valid(name):
    distribution = SEARCH_SPACE[name].distribution
    ends = getattr(distribution, "choices", None) or (distribution.low, distribution.high)
    for value in ends:
        assert getattr(Hyperparameters().replace(**{name: value}), name) == value
    assert describe(distribution)


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_papers_configuration_lies_inside(dataset):
    assert contains(search_space(), paper_hyperparameters(dataset).as_dict())


def test_the_five_of_the_paper_and_the_activation_are_searched_by_default():
    five = ("alpha", "beta", "gamma", "learning_rate", "latent_multiplier")
    assert search_space().keys() == {*five, "latent_activation"}


def test_a_range_can_be_changed_and_zero_makes_it_linear():
    space = search_space(("alpha",), {"alpha": (0.1, 2), "gamma": (0, 1)})
    assert describe(space["alpha"]) == "0.1 … 2 (log)"
    assert describe(space["gamma"]) == "0 … 1"
    assert not contains(space, {"alpha": 1000.0, "gamma": 0.5})


@pytest.mark.parametrize("model", MODELS)
def test_a_space_is_read_back_as_it_was(model):
    space = {name: searched.distribution for name, searched in MODELS[model].space.items()}
    assert space_from_json(space_to_json(space)) == space
    space = search_space(("alpha",), {"alpha": (0.1 + 0.2, 1 / 3 + 1)})
    assert space_from_json(space_to_json(space)) == space  # bounds are not rounded


BAD = [
    (("depth",), {}, "'depth' cannot be searched; choose from: alpha"),
    ((), {}, "at least one hyperparameter"),
    (("alpha",), {"alpha": (2.0, 1.0)}, "must go from low to high, but got 2:1"),
    (("alpha",), {"alpha": (-1.0, 1.0)}, "alpha must be 0 or more"),
    (("latent_activation",), {"latent_activation": (0.0, 1.0)}, "chosen from relu | linear"),
]


@pytest.mark.parametrize(("names", "ranges", "message"), BAD)
def test_a_space_that_cannot_be_is_refused(names, ranges, message):
    with pytest.raises(InputError) as refused:
        search_space(names, ranges)
    assert message in str(refused.value)


def test_annotations_of_searched_numbers_are_numbers():
    hints = typing.get_type_hints(Hyperparameters)
    for name, entry in SEARCH_SPACE.items():
        is_list = isinstance(entry.distribution, CategoricalDistribution)
        assert is_list == (hints[name] not in (int, float))
