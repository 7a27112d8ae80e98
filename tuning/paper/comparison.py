"""Means, deviations and paired differences over seeds, in percent."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import t as student

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds; what too few seeds cannot tell is NaN.

    Attributes:
        mean: Of the values.
        sd: Sample standard deviation (n - 1 in the denominator); NaN for one value.
        low: Lower end of the 95% interval of the mean (Student's t); NaN for one value.
        high: Its upper end.
        count: How many values.
    """

    mean: float
    sd: float
    low: float
    high: float
    count: int

    @property
    def with_sd(self) -> str:
        """Return ``55.4 ± 0.3``, or the mean alone where there is no deviation."""
        return f"{self.mean:.1f}" if math.isnan(self.sd) else f"{self.mean:.1f} ± {self.sd:.1f}"

    @property
    def with_interval(self) -> str:
        """Return ``+1.2 [0.3, 2.1]``, as differences are printed."""
        if math.isnan(self.low):
            return f"{self.mean:+.1f}"
        return f"{self.mean:+.1f} [{self.low:.1f}, {self.high:.1f}]"

    @property
    def sign(self) -> int:
        """Return 1 or -1 where the interval lies above or below zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def estimate(values: Sequence[float]) -> Estimate:
    """Summarise one value a seed.

    Raises:
        ValueError: There is no value.
    """
    if not values:
        raise ValueError("an estimate must have a value, but got none")
    mean, count = statistics.fmean(values), len(values)
    if count == 1:
        return Estimate(mean, math.nan, math.nan, math.nan, count)
    sd = statistics.stdev(values)
    reach = float(student.ppf((1 + CONFIDENCE) / 2, count - 1)) * sd / math.sqrt(count)
    return Estimate(mean, sd, mean - reach, mean + reach, count)


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate:
    """Summarise first - second over the seeds that both have.

    Pairing takes out what a seed does to both, so the interval is as a rule narrower than those of
    the two means would suggest.

    Raises:
        ValueError: No seed is common.
    """
    return estimate([first[seed] - second[seed] for seed in first if seed in second])
