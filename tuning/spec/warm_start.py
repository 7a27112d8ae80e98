"""Begin a search with what earlier ones found, on whichever data set (docs/method.md).

Accuracies of two data sets cannot be compared, but good configurations may carry over. So the best
few of each earlier study are proposed first, after the paper's; what comes of them here is what the
sampler learns.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from optuna.distributions import BaseDistribution

from mianet.errors import InputError
from tuning.spec.models import read_settings
from tuning.spec.objectives import Objective
from tuning.spec.records import RecordedTrial, listed
from tuning.spec.space import contains

MOST_POINTS = 5
"""Configurations that are taken over at most, of all earlier studies together."""


@dataclass(frozen=True)
class EarlierStudy:
    """A recorded study that a search begins with.

    Attributes:
        dataset: Canonical name of its data set.
        name: Its name.
        model: The model that it searched.
        searched: The hyperparameters that it searched.
        trials: All of it.
    """

    dataset: str
    name: str
    model: str
    searched: Sequence[str]
    trials: Sequence[RecordedTrial]

    def __str__(self) -> str:
        """Return how it is asked for, whatever data set is at hand."""
        return f"{self.dataset}/{self.name}"


@dataclass(frozen=True)
class WarmPoint:
    """A configuration that a search begins with.

    Attributes:
        configuration: Searched hyperparameter → value.
        origin: Where it is from: data set, study and trial.
    """

    configuration: Mapping[str, Any]
    origin: str


def warm_seed(seed: int, points: Sequence[WarmPoint]) -> int:
    """Return a sampler's seed for a search that begins with these points.

    From the same seed, a sampler that does not learn would propose what it proposed in the earlier
    study once more.
    """
    if not points:
        return seed
    told = json.dumps([dict(point.configuration) for point in points], sort_keys=True)
    return (seed + zlib.crc32(told.encode())) % 2**32


def warm_points(
    studies: Sequence[EarlierStudy],
    space: Mapping[str, BaseDistribution],
    *,
    model: str,
    objective: Objective,
    paper: Mapping[str, Any],
) -> list[WarmPoint]:
    """Return what to propose first: the best of each study in turn, each once.

    Of a study those come first that met fresh draws, the best on them first, then the others by
    their score; both by what is maximised now. A value that an earlier study did not search is the
    one that its trial had.

    Args:
        studies: Where to look.
        space: What is searched now.
        model: The model that is searched now.
        objective: What is maximised now.
        paper: The paper's configuration, which is proposed anyway; empty where it is not.

    Raises:
        InputError: A study is of another model, searched nothing of the space, or has nothing that
            can be taken over; says which and why.
    """
    of_studies = [_of_study(study, space, model, objective) for study in studies]
    chosen: list[WarmPoint] = []
    known = [dict(paper)]
    for ranked in zip_longest(*of_studies):
        for point in ranked:
            if point and point.configuration not in known and len(chosen) < MOST_POINTS:
                known.append(dict(point.configuration))
                chosen.append(point)
    return chosen


def _of_study(
    study: EarlierStudy, space: Mapping[str, BaseDistribution], model: str, objective: Objective
) -> list[WarmPoint]:
    if study.model != model:
        raise InputError(
            f"--warm-start must name studies of the model {model}, but {study} is of {study.model}"
        )
    if not set(study.searched) & set(space):
        raise InputError(
            f"--warm-start must name studies that searched a hyperparameter of this search "
            f"({', '.join(space)}), but {study} searched {listed(study.searched) or 'none'}"
        )
    ranked = sorted(
        (trial for trial in study.trials if trial.is_candidate),
        key=lambda trial: (trial.confirmation is None, -_value(trial, objective), trial.number),
    )
    points = [
        WarmPoint(_configuration(trial, space), f"{study} trial {trial.number}") for trial in ranked
    ]
    inside = [point for point in points if contains(space, point.configuration)]
    if not inside:
        raise InputError(
            f"--warm-start must name studies with a trial that ended well and lies in the space of "
            f"this search, but {study} has {len(ranked)} that ended well, of {len(study.trials)}, "
            f"and none of them lies in it; widen it with --range, or leave the study out"
        )
    return inside


def _configuration(trial: RecordedTrial, space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    settings = read_settings(trial.hyperparameters).as_dict()
    return {name: settings[name] for name in space}


def _value(trial: RecordedTrial, objective: Objective) -> float:
    figures = trial.confirmation.metrics if trial.confirmation else trial.metrics
    completed = objective.completed(figures) if objective.values[-1] in figures else figures
    return completed.get(objective.metric, -math.inf)
