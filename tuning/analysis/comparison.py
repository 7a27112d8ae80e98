"""Compare two configurations over the draws that both have met."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

CONFIDENCE = 0.95
"""Of the intervals that are told to a person."""


@dataclass(frozen=True)
class Difference:
    """How much better one configuration is than another, by paired draws.

    Attributes:
        mean: Mean of the paired differences, as a fraction of 1.
        standard_error: Of that mean; NaN from one draw.
        low: Lower end of the interval by Student's t.
        high: Upper end.
        draws: How many draws both have met.
    """

    mean: float
    standard_error: float
    low: float
    high: float
    draws: int

    @property
    def told_apart(self) -> bool:
        """Say whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        """Return the difference in points of percent, with its interval."""
        return (
            f"{100 * self.mean:+.2f} points ({CONFIDENCE:.0%} interval "
            f"{100 * self.low:+.2f} to {100 * self.high:+.2f}, {self.draws} paired draws)"
        )


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """Return how much higher ``first`` is than ``second`` over the draws that they share.

    The draws are common random numbers: their own difficulty, most of the noise, cancels.

    Args:
        first: Draw → value.
        second: Draw → value.

    Raises:
        ValueError: They share no draw.
    """
    differences = [first[draw] - second[draw] for draw in sorted(first.keys() & second.keys())]
    if not differences:
        raise ValueError("two configurations must share a draw to be compared, but share none")
    mean = statistics.fmean(differences)
    if len(differences) == 1:
        return Difference(mean, math.nan, -math.inf, math.inf, 1)
    error = standard_error(differences)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * error
    return Difference(mean, error, mean - reach, mean + reach, len(differences))


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean of two or more values."""
    return statistics.stdev(values) / math.sqrt(len(values))
