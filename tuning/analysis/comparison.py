"""Means over repeated measurements, paired differences between two of them, Pareto fronts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from scipy import special

CONFIDENCE = 0.95
"""Confidence level of the intervals that users are shown."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of repeated measurements."""

    mean: float
    sd: float  # with n - 1 in the denominator; NaN from one value
    count: int

    @classmethod
    def of(cls, values: Collection[float]) -> Spread:
        sd = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), sd, len(values))

    def __str__(self) -> str:
        """Return ``55.4 ± 0.3``, or the mean alone if there is no deviation."""
        return f"{self.mean:.1f}" if math.isnan(self.sd) else f"{self.mean:.1f} ± {self.sd:.1f}"


@dataclass(frozen=True)
class Difference:
    """How much higher one measurement is than another, paired by draw or seed; fractions of 1."""

    mean: float
    standard_error: float  # of the mean; NaN from one pair
    low: float  # lower end of the interval by Student's t
    high: float
    draws: int  # how many draws or seeds both have

    @property
    def sign(self) -> int:
        """Return 1 or -1 where the whole interval is above or below zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def in_points(self) -> str:
        """Return percentage points with the interval: ``+1.2 [0.3, 2.1]``."""
        if math.isnan(self.standard_error):
            return f"{100 * self.mean:+.1f}"
        return f"{100 * self.mean:+.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def __str__(self) -> str:
        return (
            f"{100 * self.mean:+.2f} points ({CONFIDENCE:.0%} interval "
            f"{100 * self.low:+.2f} to {100 * self.high:+.2f}, {self.draws} paired draws)"
        )


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """Return how much higher ``first`` is than ``second``, by the draws or seeds that both have.

    The draws are common random numbers: how hard each one is, most of the noise, cancels out. If
    there is none in common, raise a ValueError.
    """
    differences = [first[draw] - second[draw] for draw in sorted(first.keys() & second.keys())]
    if not differences:
        raise ValueError("two configurations must share a draw to be compared, but share none")
    mean = statistics.fmean(differences)
    if len(differences) == 1:
        return Difference(mean, math.nan, -math.inf, math.inf, 1)
    # Not scipy's ttest_rel, which warns if all differences are equal.
    error = standard_error(differences)
    reach = float(special.stdtrit(len(differences) - 1, (1 + CONFIDENCE) / 2)) * error
    return Difference(mean, error, mean - reach, mean + reach, len(differences))


K = TypeVar("K")


def pareto_front(points: Mapping[K, Sequence[float]]) -> list[K]:
    """Return the names of the points that no other dominates, highest first value first.

    A point dominates another if it is nowhere lower and somewhere higher; equal points do not.
    """

    def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
        pairs = list(zip(one, other, strict=True))
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    front = [n for n, p in points.items() if not any(dominates(q, p) for q in points.values())]
    return sorted(front, key=lambda name: tuple(-value for value in points[name]))


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean of two or more values."""
    return statistics.stdev(values) / math.sqrt(len(values))
