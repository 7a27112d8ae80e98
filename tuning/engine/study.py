"""A study: everything that determines a search, and its checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from mianet.config import Settings
from mianet.data.search_data import SearchData
from mianet.errors import InputError
from tuning.engine.samplers import SAMPLERS
from tuning.spec.choices import MIANET
from tuning.spec.models import MODELS
from tuning.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES, Objective
from tuning.spec.records import listed
from tuning.spec.space import contains
from tuning.spec.warm_start import WarmPoint

MOST_EXECUTIONS = 100
MOST_EPOCHS = 10_000
FEWEST_CLASSES = 3
MOST_CLASSES = 20_000
"""The most seen classes for MIANet: eq. 2 has a number for each pair of them, 1.6 GB."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything that determines a search besides data and machines; checked on construction."""

    name: str
    space: Mapping[str, BaseDistribution]
    fixed: Mapping[str, Any]  # hyperparameters that differ from the defaults and are not searched
    trials: int
    max_epochs: int
    patience: int  # epochs without a new best score after which a trial ends
    executions: int  # draws that a configuration is averaged over (5 in section 4.2)
    seed: int  # of the draws, of the trainings and of the sampler
    sampler: str
    scheduler: str
    time_budget: float | None = None  # seconds after which the search stops
    model: str = MIANET
    objective: str = DEFAULT_OBJECTIVE
    warm: Sequence[WarmPoint] = ()  # the first trials, before the paper's configuration

    def __post_init__(self) -> None:
        MODELS[self.model].settings.from_mapping(self.fixed)
        both = sorted(set(self.space) & set(self.fixed))
        if both:
            raise InputError(
                f"a hyperparameter must be searched or set, but {', '.join(both)} is both; "
                "remove it from --set or --search"
            )
        if self.goal.has_several and not SAMPLERS[self.sampler].multi_objective:
            suitable = listed(
                [name for name, sampler in SAMPLERS.items() if sampler.multi_objective]
            )
            raise InputError(
                f"--objective {self.objective} needs a multi-objective sampler ({suitable}), but "
                f"got --sampler {self.sampler}; change one of the two"
            )
        categorical = [n for n, d in self.space.items() if isinstance(d, CategoricalDistribution)]
        if categorical and not SAMPLERS[self.sampler].categorical:
            raise InputError(
                f"the sampler {self.sampler} searches only numbers, but {', '.join(categorical)} "
                "is categorical; remove it from --search, or use another --sampler"
            )
        for name, most in (("executions", MOST_EXECUTIONS), ("max_epochs", MOST_EPOCHS)):
            if not 1 <= (value := getattr(self, name)) <= most:
                option = name.replace("_", "-")
                raise InputError(f"--{option} must be from 1 to {most}, but got {value}")

    @property
    def goal(self) -> Objective:
        return OBJECTIVES[self.objective]


def base_settings(study: Study, dataset: str) -> Settings:
    """Return the hyperparameters that trials start from: the paper's, and what is fixed."""
    model = MODELS[study.model]
    return model.settings.from_mapping({**model.published(dataset).as_dict(), **study.fixed})


def paper_point(study: Study, dataset: str) -> dict[str, Any]:
    """Return the paper's values of the searched hyperparameters; empty if any is out of range."""
    paper = MODELS[study.model].published(dataset).as_dict()
    point = {name: paper[name] for name in study.space}
    return point if contains(study.space, point) else {}


def check_data(data: SearchData, model: str = MIANET) -> None:
    """Refuse data with too few seen classes for the protocol, or more than fit into memory."""
    classes = len(data.class_attributes)
    if model == MIANET and classes > MOST_CLASSES:
        raise InputError(
            f"a search of MIANet must have at most {MOST_CLASSES:,} seen classes, since its loss "
            f"compares all pairs of them, but {data.name} has {classes:,}; remove some, or "
            "search another --model"
        )
    if classes < FEWEST_CLASSES:
        raise InputError(
            f"{data.name} must have at least {FEWEST_CLASSES} seen classes to draw pseudo-unseen "
            f"ones from, but has {classes}"
        )
