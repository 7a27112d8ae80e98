"""The models that can be searched: MIANet, and the published ones to compare it with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mianet.config import FeatureScaling, Hyperparameters, Settings
from mianet.data.datasets import find_dataset
from mianet.data.search_data import paper_hyperparameters
from mianet.errors import InputError
from mianet.reference import settings as of
from tuning.spec.choices import MIANET
from tuning.spec.space import SEARCH_SPACE, Searched


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model as a search and a final training use it."""

    title: str
    settings: type[Settings]
    # data set → the published configuration or, if there is none, one that is known to reproduce
    # the published figures; a search tries it too
    published: Callable[[str], Settings]
    space: Mapping[str, Searched]  # hyperparameter → how it is searched
    closed_form: bool = False  # whether training is a single closed-form solution, one epoch


def _table_name(name: str) -> str:
    spec = find_dataset(name).spec
    return spec.name if spec else ""


def _reference(
    title: str,
    settings: type[Settings],
    space: Mapping[str, Searched],
    published: Mapping[str, Mapping[str, Any]] = {},
) -> Model:
    """Return a model to compare with; ``published`` is data set → settings that differ."""
    return Model(
        title=title,
        settings=settings,
        published=lambda name: settings.from_mapping(published.get(_table_name(name), {})),
        space=space,
        closed_form=not issubclass(settings, of.RankingSettings),
    )


_SCALING = Searched(CategoricalDistribution(get_args(FeatureScaling)))
_MAYBE_SCALING = replace(_SCALING, by_default=False)
_WEIGHT_DECAY = Searched(FloatDistribution(1e-5, 1.0, log=True))
_RANKING_SPACE = {
    "learning_rate": Searched(FloatDistribution(1e-4, 10.0, log=True)),
    "feature_scaling": _SCALING,
    "batch_images": Searched(IntDistribution(1, 256, log=True), by_default=False),
}

MODELS: Mapping[str, Model] = {
    MIANET: Model(
        title="MIANet",
        settings=Hyperparameters,
        published=paper_hyperparameters,
        space=SEARCH_SPACE,
    ),
    "eszsl": _reference(
        "ESZSL",
        of.ESZSLSettings,
        {
            "feature_weight": Searched(FloatDistribution(1e-1, 1e7, log=True)),
            "attribute_weight": Searched(FloatDistribution(1e-4, 1e4, log=True)),
            "feature_scaling": _MAYBE_SCALING,
        },
        {
            "sun": {"attribute_weight": 100.0},
            "cub": {"attribute_weight": 0.1},
            "apy": {"attribute_weight": 0.1},
        },
    ),
    "sae": _reference(
        "SAE",
        of.SAESettings,
        {
            "encoder_weight": Searched(FloatDistribution(1e-4, 1e4, log=True)),
            "matching": Searched(CategoricalDistribution(get_args(of.Matching))),
            "feature_scaling": _MAYBE_SCALING,
        },
    ),
    "conse": _reference(
        "ConSE",
        of.ConSESettings,
        {
            "top": Searched(IntDistribution(1, 100, log=True)),
            "weight_decay": _WEIGHT_DECAY,
            "feature_scaling": _MAYBE_SCALING,
        },
    ),
    "dap": _reference(
        "DAP",
        of.DAPSettings,
        {
            "weight_decay": _WEIGHT_DECAY,
            "threshold": Searched(CategoricalDistribution(get_args(of.Threshold))),
            "feature_scaling": _MAYBE_SCALING,
        },
    ),
    "ale": _reference("ALE", of.ALESettings, _RANKING_SPACE),
    "devise": _reference("DeViSE", of.DeViSESettings, _RANKING_SPACE),
    "sje": _reference("SJE", of.SJESettings, _RANKING_SPACE),
}
"""Models: name → model; the name is also the value of ``model`` in its settings."""


def read_settings(recorded: Mapping[str, Any]) -> Settings:
    """Return the settings of a recorded configuration; raise InputError for an unknown name."""
    name = recorded.get("model", "unknown")
    if name not in MODELS:
        raise InputError(f"the recorded model must be one of {', '.join(MODELS)}, but is {name!r}")
    return MODELS[name].settings.from_mapping(recorded)
