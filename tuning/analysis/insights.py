"""What to do next after a search: wider ranges, more trials, or more draws."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from scipy import stats

from tuning.analysis.selection import front_of, front_words
from tuning.spec.records import SELECTABLE, RecordedTrial
from tuning.spec.space import describe

NEAR_EDGE = 0.05
"""Fraction of a range, on its own scale, that counts as its edge."""

WIDER = 0.25
"""Fraction of a range by which it should be extended."""

MANY_INFEASIBLE = 0.1
"""Fraction of diverged trials from which they are reported."""

SEPARATED = 0.85
"""A hyperparameter is named as a cause if, with at least this probability, the value of a diverged
trial is more extreme than that of another."""

BANDS = 6
FEWEST_TRIALS = 8
"""With fewer, half of the trials say nothing about twice as many."""


@dataclass(frozen=True)
class Edge:
    """A searched hyperparameter of a trial that lies at the edge of its range.

    Attributes:
        trial: Number of the trial.
        name: The hyperparameter.
        value: Its value in the trial.
        side: ``lower`` or ``upper``.
        searched: The searched range, in words.
        wider: Bounds that leave room beyond the value.
    """

    trial: int
    name: str
    value: float
    side: str
    searched: str
    wider: tuple[float, float]

    def __str__(self) -> str:
        """Return it as a sentence with what to do."""
        low, high = self.wider
        return (
            f"{self.name} of trial {self.trial}, {self.value:.3g}, lies at the {self.side} end of "
            f"its range {self.searched}; to look further: --range {self.name}={low:.3g}:{high:.3g}"
        )


@dataclass(frozen=True)
class Doubling:
    """How much the last doubling of the number of trials gained, and the noise of a score.

    Attributes:
        trials: How many trials have a score.
        gain: The best score minus the expected best of a random half of the trials.
        standard_error: Of the best trial's mean over executions; NaN for one execution.
    """

    trials: int
    gain: float
    standard_error: float

    @property
    def is_worth_it(self) -> bool:
        """Say whether the gain exceeds the noise of a score."""
        return not self.gain < self.standard_error

    def __str__(self) -> str:
        """Return it as a sentence."""
        gain = f"{self.trials} trials gained {100 * self.gain:.2f} points over half of them"
        noise = f"the standard error of a score is {100 * self.standard_error:.2f}"
        if self.is_worth_it:
            return f"{gain}, and {noise}: more trials would likely help"
        return f"{gain}, but {noise}: more draws would help more than more trials"


@dataclass(frozen=True)
class Band:
    """The trials with values of a hyperparameter in one part of its range.

    Attributes:
        low: Lower bound of the part.
        high: Upper bound.
        middle: Midpoint on the range's own scale.
        scores: Scores of its trials, the best first.
    """

    low: float
    high: float
    middle: float
    scores: Sequence[float]


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

    Returns:
        Sentences; none if there is nothing to say.
    """
    best = chosen or max(_selectable(trials), key=lambda trial: trial.score, default=None)
    at_edges = edges(best, space) if best else []
    front = front_of([trial for trial in trials if trial.is_candidate], fresh=False)
    found = [
        front_words(front, fresh=False) if front else "",
        doubling(trials),
        *at_edges,
        infeasible_words(trials, space),
    ]
    return [str(what) for what in found if what]


def edges(best: RecordedTrial, space: Mapping[str, BaseDistribution]) -> list[Edge]:
    """Return the hyperparameters of a trial that lie at an edge of their range."""
    found = []
    for name, distribution in space.items():
        if not isinstance(distribution, FloatDistribution | IntDistribution):
            continue
        value = float(best.hyperparameters[name])
        low, high, scaled = _on_scale(distribution, [distribution.low, distribution.high, value])
        place = (scaled - low) / (high - low)
        if min(place, 1 - place) > NEAR_EDGE:
            continue
        side = "lower" if place < 0.5 else "upper"
        further = (high - low) * WIDER
        bounds = (low - further, high) if side == "lower" else (low, high + further)
        found.append(
            Edge(
                best.number,
                name,
                value,
                side,
                describe(distribution),
                _searchable(distribution, bounds),
            )
        )
    return found


def doubling(trials: Sequence[RecordedTrial]) -> Doubling | None:
    """Return the gain of the last doubling; None for fewer than ``FEWEST_TRIALS``.

    The expected best of a random half is exact, by the order statistics of sampling without
    replacement. Trials of a sampler that learns improve with time, so for them the gain is
    underestimated.
    """
    ranked = sorted(_selectable(trials), key=lambda trial: trial.score)
    count, half = len(ranked), len(ranked) // 2
    if count < FEWEST_TRIALS:
        return None
    chances = [math.comb(i, half - 1) / math.comb(count, half) for i in range(count)]
    of_half = sum(p * t.score for p, t in zip(chances, ranked, strict=True))
    best = ranked[-1]
    values = list(best.per_execution.values())
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Doubling(count, best.score - of_half, error)


def infeasible_words(trials: Sequence[RecordedTrial], space: Mapping[str, BaseDistribution]) -> str:
    """Return a sentence on diverged trials if they are many; else ""."""
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


def bands(trials: Sequence[RecordedTrial], name: str, space: BaseDistribution) -> list[Band]:
    """Group scores by the value of a hyperparameter, as figure 6 does by the latent multiplier.

    Args:
        trials: Trials of one study.
        name: The hyperparameter.
        space: Its range, which is cut into ``BANDS`` equal parts on its own scale.

    Returns:
        The parts; none for a hyperparameter that is not a number.
    """
    if not isinstance(space, FloatDistribution | IntDistribution):
        return []
    low, high = _on_scale(space, [space.low, space.high])
    cuts = np.linspace(low, high, BANDS + 1)
    good = _selectable(trials)
    values = _on_scale(space, [float(trial.hyperparameters[name]) for trial in good])
    places = np.clip(np.searchsorted(cuts, values, side="right") - 1, 0, BANDS - 1)
    ends, middles = (
        _off_scale(space, list(cuts)),
        _off_scale(space, list((cuts[1:] + cuts[:-1]) / 2)),
    )
    return [
        Band(
            ends[band],
            ends[band + 1],
            middles[band],
            sorted((t.score for t, p in zip(good, places, strict=True) if p == band), reverse=True),
        )
        for band in range(BANDS)
    ]


def _separations(
    bad: Sequence[RecordedTrial],
    good: Sequence[RecordedTrial],
    space: Mapping[str, BaseDistribution],
) -> dict[str, float]:
    """Return hyperparameter → probability that a diverged trial's value exceeds another's."""
    names = [n for n, d in space.items() if isinstance(d, FloatDistribution | IntDistribution)]
    if not good:
        return {}
    values = {n: [[float(t.hyperparameters[n]) for t in ts] for ts in (bad, good)] for n in names}
    return {
        n: float(stats.mannwhitneyu(*both).statistic) / (len(bad) * len(good))
        for n, both in values.items()
    }


def _searchable(
    distribution: FloatDistribution | IntDistribution, scaled: Sequence[float]
) -> tuple[float, float]:
    """Return bounds that can be searched: whole for integers, below 0 only if the range was."""
    low, high = _off_scale(distribution, scaled)
    if isinstance(distribution, IntDistribution):
        low, high = math.floor(low), math.ceil(high)
    return (max(low, 0) if distribution.low >= 0 else low), high


def _selectable(trials: Sequence[RecordedTrial]) -> list[RecordedTrial]:
    return [t for t in trials if t.status in SELECTABLE and math.isfinite(t.score)]


def _on_scale(
    distribution: FloatDistribution | IntDistribution, values: Sequence[float]
) -> list[float]:
    return [math.log(value) for value in values] if distribution.log else list(values)


def _off_scale(
    distribution: FloatDistribution | IntDistribution, values: Sequence[float]
) -> list[float]:
    return [math.exp(value) for value in values] if distribution.log else list(values)
