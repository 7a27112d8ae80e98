"""The importance of each searched hyperparameter."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, create_trial

MIN_TRIALS = 20
"""With fewer, a forest describes the trials that happened to be drawn, not the space."""

REPEATS = 5
_TREES = 16
_DEPTH = 6  # deeper ones give the same shares, and take a minute for hundreds of trials

Value = float | str


def importances(
    points: Sequence[Mapping[str, Value]],
    scores: Sequence[float],
    *,
    logarithmic: frozenset[str] = frozenset(),
) -> dict[str, list[float]]:
    """Return each hyperparameter's share of the variance of the score, the largest first.

    By fANOVA (Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter
    Importance", ICML 2014) as Optuna implements it: a random forest predicts the score, and its
    variance over the whole space is divided among the hyperparameters, leaving out interactions. It
    is repeated on trials resampled with replacement, which shows how far to trust it.

    PED-ANOVA, also in Optuna, shows what sets the best tenth apart, but needs at least five trials
    in that tenth; most searches have fewer.

    Args:
        points: Hyperparameter → value of each trial; numbers, or choices as text.
        scores: Of each trial.
        logarithmic: Those that were drawn on a logarithmic scale. Optuna weighs the space linearly,
            so the top decade of a range of nine would be nearly all of it; it is therefore given
            their logarithms.

    Returns:
        Hyperparameter → shares, one per repetition; empty if there are too few trials, or nothing
        differs among them.
    """
    names = sorted(points[0]) if points else []
    columns = {n: [_scaled(point[n], n in logarithmic) for point in points] for n in names}
    if len(points) < MIN_TRIALS or len(set(scores)) == 1:
        return {}
    space = {n: _distribution(values) for n, values in columns.items() if len(set(values)) > 1}
    if not space:
        return {}
    trials = [
        create_trial(
            params={name: columns[name][row] for name in space}, distributions=space, value=score
        )
        for row, score in enumerate(scores)
    ]
    repeated = [_once(trials, seed) for seed in range(REPEATS)]
    shares = {name: [one.get(name, 0.0) for one in repeated] for name in names}
    return dict(sorted(shares.items(), key=lambda item: -statistics.fmean(item[1])))


def _once(trials: Sequence[FrozenTrial], seed: int) -> dict[str, float]:
    """Return the shares of one forest: of all trials for seed 0, else of a resample."""
    chosen = list(trials)
    if seed:
        rows = np.random.default_rng(seed).integers(len(trials), size=len(trials))
        chosen = [trials[row] for row in rows]
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it logs every study it creates
    study = optuna.create_study(direction="maximize")
    study.add_trials(chosen)
    evaluator = FanovaImportanceEvaluator(n_trees=_TREES, max_depth=_DEPTH, seed=seed)
    return get_param_importances(study, evaluator=evaluator)


def _scaled(value: Value, logarithmic: bool) -> Value:
    return math.log10(value) if logarithmic and isinstance(value, float) else value


def _distribution(values: Sequence[Value]) -> BaseDistribution:
    if any(isinstance(value, str) for value in values):
        return CategoricalDistribution(sorted(map(str, values)))
    numbers = [float(value) for value in values]
    return FloatDistribution(min(numbers), max(numbers))
