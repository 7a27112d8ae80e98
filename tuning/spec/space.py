"""What a search searches: one entry per hyperparameter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

from mianet.config import FeatureScaling, Hyperparameters, LatentActivation, Settings
from mianet.errors import InputError

NumberDistribution = FloatDistribution | IntDistribution


@dataclass(frozen=True)
class Searched:
    """How a hyperparameter is searched."""

    distribution: BaseDistribution  # where its values are drawn from
    by_default: bool = True  # whether a search includes it unless told otherwise


SEARCH_SPACE: Mapping[str, Searched] = {
    "alpha": Searched(FloatDistribution(1e-2, 1e6, log=True)),
    "beta": Searched(FloatDistribution(1e-4, 1.0, log=True)),
    "gamma": Searched(FloatDistribution(1e-4, 1.0, log=True)),
    "learning_rate": Searched(FloatDistribution(1e-5, 1e-3, log=True)),
    "latent_multiplier": Searched(FloatDistribution(1.0, 16.0, log=True)),
    "latent_activation": Searched(CategoricalDistribution(get_args(LatentActivation))),
    "feature_scaling": Searched(
        CategoricalDistribution(get_args(FeatureScaling)), by_default=False
    ),
    "batch_images": Searched(IntDistribution(32, 1024, log=True), by_default=False),
    "hidden_dim": Searched(IntDistribution(256, 4096, log=True), by_default=False),
}
"""Hyperparameter → how it is searched. The first five ranges lie around the paper's values."""


def search_space(
    names: Sequence[str] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    *,
    table: Mapping[str, Searched] = SEARCH_SPACE,
    settings: type[Settings] = Hyperparameters,
) -> dict[str, BaseDistribution]:
    """Return name → distribution of the hyperparameters to search.

    Args:
        names: Which of the table to search; None for those that are searched by default.
        ranges: Narrower or wider bounds for some of the names.
        table: What can be searched; MIANet's unless another model's is given.
        settings: The model's hyperparameters, which check their own limits.

    Raises:
        InputError: A name is not in the table, or a range is not valid.
    """
    if names is None:
        names = [name for name, entry in table.items() if entry.by_default]
    for name in (*names, *(ranges or {})):
        if name not in table:
            raise InputError(f"{name!r} cannot be searched; choose from: {', '.join(table)}")
    if not names:
        raise InputError("at least one hyperparameter must be searched, but got none")
    space = {name: table[name].distribution for name in names}
    for name, (low, high) in (ranges or {}).items():
        space[name] = _bounded(name, table[name].distribution, low, high, settings)
    return space


def contains(space: Mapping[str, BaseDistribution], values: Mapping[str, Any]) -> bool:
    """Say whether the value of every name in the space lies inside its range."""
    return all(
        distribution._contains(distribution.to_internal_repr(values[name]))
        for name, distribution in space.items()
    )


def describe(distribution: BaseDistribution) -> str:
    """Return a range in readable form, e.g. ``1e-05 … 10000 (log)``."""
    if isinstance(distribution, CategoricalDistribution):
        return " | ".join(str(choice) for choice in distribution.choices)
    if isinstance(distribution, NumberDistribution):
        scale = " (log)" if distribution.log else ""
        return f"{distribution.low:g} … {distribution.high:g}{scale}"
    return str(distribution)


def space_to_json(space: Mapping[str, BaseDistribution]) -> str:
    """Return a search space as JSON, each range as Optuna writes it."""
    return json.dumps({name: json.loads(distribution_to_json(d)) for name, d in space.items()})


def space_from_json(text: str) -> dict[str, BaseDistribution]:
    """Return the search space that ``space_to_json`` wrote."""
    return {name: json_to_distribution(json.dumps(d)) for name, d in json.loads(text).items()}


def _bounded(
    name: str, distribution: BaseDistribution, low: float, high: float, settings: type[Settings]
) -> BaseDistribution:
    if not isinstance(distribution, NumberDistribution):
        raise InputError(
            f"--range must be of a number, but {name} is chosen from {describe(distribution)}"
        )
    if not low < high:
        raise InputError(f"the range of {name} must go from low to high, but got {low:g}:{high:g}")
    number = get_type_hints(settings)[name]
    if number is int and not (float(low).is_integer() and float(high).is_integer()):
        raise InputError(f"the range of {name} must be of whole numbers, but got {low:g}:{high:g}")
    for bound in (low, high):
        settings.from_mapping({name: number(bound)})
    return type(distribution)(number(low), number(high), log=low > 0)
