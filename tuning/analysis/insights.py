"""What to do next after a search: wider ranges, more trials, or more draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from optuna.distributions import BaseDistribution, IntDistribution
from scipy import stats

from tuning.analysis.comparison import standard_error
from tuning.analysis.selection import front_of, front_sentence
from tuning.spec.records import SELECTABLE, RecordedTrial
from tuning.spec.space import NumberDistribution, describe

NEAR_EDGE = 0.05
"""Fraction of a range, on its own scale, that counts as its edge."""
WIDER = 0.25
"""Fraction of a range by which it should be extended."""
MANY_INFEASIBLE = 0.1
"""Fraction of diverged trials at which they are reported."""
SEPARATED = 0.85
"""A hyperparameter is named as a cause if, with at least this probability, the value of a diverged
trial is more extreme than that of another."""
BANDS = 6
MIN_TRIALS = 8
"""With fewer, a half of the trials is too small to judge the gain of doubling."""


def sentences(
    trials: Sequence[RecordedTrial],
    space: Mapping[str, BaseDistribution],
    chosen: RecordedTrial | None = None,
) -> list[str]:
    """Return what a user should do next, as sentences.

    Args:
        trials: All trials of a study.
        space: Searched hyperparameter → distribution.
        chosen: The selected trial; None for the one with the highest score.
    """
    best = chosen or max(_selectable(trials), key=lambda trial: trial.score, default=None)
    front = front_of([trial for trial in trials if trial.is_candidate], fresh=False)
    found = [
        front_sentence(front, fresh=False) if front else "",
        doubling_sentence(trials),
        *(edge_sentences(best, space) if best else []),
        infeasible_sentence(trials, space),
    ]
    return [words for words in found if words]


def edge_sentences(best: RecordedTrial, space: Mapping[str, BaseDistribution]) -> list[str]:
    """Return a sentence for each hyperparameter of a trial that lies at an edge of its range."""
    return [
        f"{name} of trial {best.number}, {float(best.hyperparameters[name]):.3g}, is at the "
        f"{side} end of its range {describe(space[name])}; to search further: "
        f"--range {name}={low:.3g}:{high:.3g}"
        for name, (side, low, high) in edges(best, space).items()
    ]


def edges(
    best: RecordedTrial, space: Mapping[str, BaseDistribution]
) -> dict[str, tuple[str, float, float]]:
    """Return the hyperparameters of a trial that lie at an edge of their range.

    Each comes with the end, ``lower`` or ``upper``, and bounds that leave room beyond it.
    """
    found = {}
    for name, distribution in space.items():
        if not isinstance(distribution, NumberDistribution):
            continue
        value = float(best.hyperparameters[name])
        low, high, scaled = _on_scale(distribution, [distribution.low, distribution.high, value])
        place = (scaled - low) / (high - low)
        if min(place, 1 - place) > NEAR_EDGE:
            continue
        side = "lower" if place < 0.5 else "upper"
        further = (high - low) * WIDER
        bounds = (low - further, high) if side == "lower" else (low, high + further)
        found[name] = (side, *_searchable(distribution, bounds))
    return found


def doubling_sentence(trials: Sequence[RecordedTrial]) -> str:
    """Return a sentence on the gain of the last doubling of the number of trials, if it is known.

    More trials are worth it where that exceeds the standard error of the best trial's mean.
    """
    good = _selectable(trials)
    if len(good) < MIN_TRIALS:
        return ""
    gain = gain_of_doubling([trial.score for trial in good])
    best = max(good, key=lambda trial: trial.score)
    values = list(best.per_execution.values())
    noise = standard_error(values) if len(values) > 1 else math.nan
    found = f"{len(good)} trials gained {100 * gain:.2f} points over half as many"
    error = f"the standard error of a score is {100 * noise:.2f}"
    if gain < noise:
        return f"{found}, but {error}: more draws would help more than more trials"
    return f"{found}, and {error}: more trials would likely help"


def gain_of_doubling(scores: Sequence[float]) -> float:
    """Return the best score minus the expected best of a random half of the trials.

    This is exact, by the order statistics of sampling without replacement. Trials of an adaptive
    sampler improve with time, so the gain is underestimated for them.
    """
    count, half = len(scores), len(scores) // 2
    chances = [math.comb(i, half - 1) / math.comb(count, half) for i in range(count)]
    return max(scores) - sum(p * s for p, s in zip(chances, sorted(scores), strict=True))


def infeasible_sentence(
    trials: Sequence[RecordedTrial], space: Mapping[str, BaseDistribution]
) -> str:
    """Return a sentence on diverged trials if there are many; else ""."""
    bad = [trial for trial in trials if trial.status == "infeasible"]
    good = _selectable(trials)
    if not bad or len(bad) < MANY_INFEASIBLE * (len(bad) + len(good)):
        return ""
    causes = [
        f"{name} is {'high' if chance > 0.5 else 'low'}"
        for name, chance in _separations(bad, good, space).items()
        if max(chance, 1 - chance) >= SEPARATED
    ]
    where = f", mostly where {' and '.join(causes)}; a narrower --range would avoid them"
    return f"{len(bad)} of {len(bad) + len(good)} trials diverged{where if causes else ''}"


@dataclass(frozen=True)
class Band:
    """The trials with values of a hyperparameter in one part of its range."""

    low: float
    high: float
    middle: float  # on the range's own scale
    scores: Sequence[float]  # the best first


def bands(trials: Sequence[RecordedTrial], name: str, space: BaseDistribution) -> list[Band]:
    """Group scores by the value of a hyperparameter, as figure 6 does by the latent multiplier.

    Args:
        trials: Trials of one study.
        name: The hyperparameter.
        space: Its range, which is cut into ``BANDS`` equal parts on its own scale.

    Returns:
        The parts; none for a hyperparameter that is not a number.
    """
    if not isinstance(space, NumberDistribution):
        return []
    low, high = _on_scale(space, [space.low, space.high])
    cuts = np.linspace(low, high, BANDS + 1)
    good = _selectable(trials)
    values = _on_scale(space, [float(trial.hyperparameters[name]) for trial in good])
    places = np.clip(np.searchsorted(cuts, values, side="right") - 1, 0, BANDS - 1)
    scores: list[list[float]] = [[] for _ in range(BANDS)]
    for trial, place in zip(good, places, strict=True):
        scores[place].append(trial.score)
    ends = _off_scale(space, list(cuts))
    middles = _off_scale(space, list((cuts[1:] + cuts[:-1]) / 2))
    return [
        Band(*bounds, middle, sorted(own, reverse=True))
        for bounds, middle, own in zip(pairwise(ends), middles, scores, strict=True)
    ]


def _separations(
    bad: Sequence[RecordedTrial],
    good: Sequence[RecordedTrial],
    space: Mapping[str, BaseDistribution],
) -> dict[str, float]:
    """Return hyperparameter → probability that a diverged trial's value exceeds another's."""
    names = [n for n, d in space.items() if isinstance(d, NumberDistribution)]
    if not good:
        return {}
    values = {n: [[float(t.hyperparameters[n]) for t in ts] for ts in (bad, good)] for n in names}
    return {
        n: float(stats.mannwhitneyu(*both).statistic) / (len(bad) * len(good))
        for n, both in values.items()
    }


def _searchable(distribution: NumberDistribution, scaled: Sequence[float]) -> tuple[float, float]:
    """Return bounds that can be searched: whole for integers, below 0 only if the range was."""
    low, high = _off_scale(distribution, scaled)
    if isinstance(distribution, IntDistribution):
        low, high = math.floor(low), math.ceil(high)
    return (max(low, 0) if distribution.low >= 0 else low), high


def _selectable(trials: Sequence[RecordedTrial]) -> list[RecordedTrial]:
    return [t for t in trials if t.status in SELECTABLE and math.isfinite(t.score)]


def _on_scale(distribution: NumberDistribution, values: Sequence[float]) -> list[float]:
    return [math.log(value) for value in values] if distribution.log else list(values)


def _off_scale(distribution: NumberDistribution, values: Sequence[float]) -> list[float]:
    return [math.exp(value) for value in values] if distribution.log else list(values)
