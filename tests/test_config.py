"""The list of hyperparameters checks itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mianet.config import VARIANTS, Hyperparameters
from mianet.errors import InputError

BAD = [
    ("alpha", -1.0, "0 or more"),
    ("alpha", float("nan"), "finite number"),
    ("beta", float("inf"), "finite number"),
    ("learning_rate", 0.0, "more than 0"),
    ("hidden_dim", 0, "more than 0"),
    ("hidden_dim", 2.5, "whole number"),
    ("batch_images", True, "whole number"),
    ("gamma", "much", "finite number"),
    ("latent_activation", "tanh", "one of relu, linear"),
    ("strategy", "both", "one of iterative"),
    ("orthogonal", 1, "true or false"),
]


@pytest.mark.parametrize(("name", "value", "expected"), BAD)
def test_a_bad_value_names_itself_and_what_was_expected(name, value, expected):
    with pytest.raises(InputError, match=f"^{name} must be .*{expected}.* but got {value!r}$"):
        Hyperparameters(**{name: value})


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        InputError, match="'alhpa' is not a hyperparameter; choose from: model, alpha"
    ):
        Hyperparameters.from_mapping({"alhpa": 1})


@given(
    st.builds(
        Hyperparameters,
        alpha=st.floats(0, 1e6),
        learning_rate=st.floats(1e-9, 1.0),
        latent_activation=st.sampled_from(["relu", "linear"]),
        hidden_dim=st.integers(1, 9999),
        orthogonal=st.booleans(),
    )
)
def test_strings_come_back_as_they_were(settings):
    as_strings = {name: str(value) for name, value in settings.as_dict().items()}
    assert Hyperparameters.from_mapping(as_strings) == settings


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_a_valid_setting(variant):
    settings = Hyperparameters().replace(**VARIANTS[variant])
    assert (settings == Hyperparameters()) is (variant == "full")


def test_latent_dim_is_at_least_one():
    assert Hyperparameters(latent_multiplier=0.01).latent_dim(3) == 1
    assert Hyperparameters(latent_multiplier=2.0).latent_dim(50) == 100
