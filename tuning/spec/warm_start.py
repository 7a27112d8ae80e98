"""Start a search from the best configurations of earlier studies, of any data set (docs/method.md).

They are proposed first, and the sampler learns from their results in the new study.
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

MAX_POINTS = 5
"""The most configurations to take over from all earlier studies together."""


@dataclass(frozen=True)
class EarlierStudy:
    """A recorded study that a search is warm-started from, and the hyperparameters it searched."""

    dataset: str
    name: str
    model: str
    searched: Sequence[str]
    trials: Sequence[RecordedTrial]

    def __str__(self) -> str:
        return f"{self.dataset}/{self.name}"


@dataclass(frozen=True)
class WarmPoint:
    """A configuration that is proposed first, and the data set, study and trial it is from."""

    configuration: Mapping[str, Any]
    origin: str


def warm_seed(seed: int, points: Sequence[WarmPoint]) -> int:
    """Return the sampler's seed for a warm-started search.

    With the earlier study's seed, a sampler that does not learn from results would propose the same
    configurations again.
    """
    if not points:
        return seed
    text = json.dumps([dict(point.configuration) for point in points], sort_keys=True)
    return (seed + zlib.crc32(text.encode())) % 2**32


def warm_points(
    studies: Sequence[EarlierStudy],
    space: Mapping[str, BaseDistribution],
    *,
    model: str,
    objective: Objective,
    paper: Mapping[str, Any],
) -> list[WarmPoint]:
    """Return the configurations to propose first: the best of each study in turn, without repeats.

    Within a study, confirmed trials come first, by their values on fresh draws; then the others, by
    their scores; both by the objective of the new search. A hyperparameter that the earlier study
    did not search keeps the value that its trial had.

    Args:
        studies: The earlier studies.
        space: Searched hyperparameter → distribution, of the new search.
        model: The model of the new search.
        objective: The objective of the new search.
        paper: The paper's configuration, which is proposed anyway; empty if it is not.

    Raises:
        InputError: A study is of another model, searched none of the space's hyperparameters, or
            has no trial inside the space; says which study and why.
    """
    by_study = [_points_of(study, space, model, objective) for study in studies]
    chosen: list[WarmPoint] = []
    known = [dict(paper)]
    for ranked in zip_longest(*by_study):
        for point in ranked:
            if point and point.configuration not in known and len(chosen) < MAX_POINTS:
                known.append(dict(point.configuration))
                chosen.append(point)
    return chosen


def _points_of(
    study: EarlierStudy, space: Mapping[str, BaseDistribution], model: str, objective: Objective
) -> list[WarmPoint]:
    if study.model != model:
        raise InputError(
            f"--warm-start must name studies of the model {model}, but {study} is of "
            f"{study.model}; leave it out"
        )
    if not set(study.searched) & set(space):
        raise InputError(
            f"--warm-start must name studies that searched a hyperparameter of this search "
            f"({', '.join(space)}), but {study} searched {listed(study.searched) or 'none'}; leave "
            "it out"
        )
    ranked = sorted(
        (trial for trial in study.trials if trial.is_candidate),
        key=lambda trial: (trial.confirmation is None, -_value(trial, objective), trial.number),
    )
    points = []
    for trial in ranked:
        settings = read_settings(trial.hyperparameters).as_dict()
        if contains(space, settings):
            configuration = {name: settings[name] for name in space}
            points.append(WarmPoint(configuration, f"{study} trial {trial.number}"))
    if not points:
        raise InputError(
            f"--warm-start must name studies with a trial that ended well inside the space of this "
            f"search, but of the {len(study.trials)} trials of {study} {len(ranked)} ended well, "
            "none of them inside it; widen it with --range, or leave the study out"
        )
    return points


def _value(trial: RecordedTrial, objective: Objective) -> float:
    figures = trial.confirmation.metrics if trial.confirmation else trial.metrics
    if all(name in figures for name in objective.parts):
        figures = objective.with_metric(figures)
    return figures.get(objective.metric, -math.inf)
