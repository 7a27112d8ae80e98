"""From values to places on a picture, and the values worth naming on an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


class Scale(Protocol):
    """Where values lie between two ends, 0 and 1, and which are named."""

    def at(self, value: float | str) -> float:
        """Return the place of a value."""

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """Return about so many places with their names."""


@dataclass(frozen=True)
class Linear:
    """Equal differences, equal distances."""

    low: float
    high: float

    def at(self, value: float | str) -> float:
        """Return the place of a value."""
        return (float(value) - self.low) / (self.high - self.low or 1.0)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """Return round values inside the ends."""
        step = _nice_step((self.high - self.low) / max(count, 1))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        values = [number * step for number in range(first, last + 1)]
        return [(self.at(value), f"{value:.10g}") for value in values]


@dataclass(frozen=True)
class Logarithmic:
    """Equal ratios, equal distances; both ends are above 0."""

    low: float
    high: float

    def at(self, value: float | str) -> float:
        """Return the place of a value."""
        width = math.log10(self.high) - math.log10(self.low)
        return (math.log10(float(value)) - math.log10(self.low)) / (width or 1.0)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """Return powers of ten, or where there are fewer than two, 1, 2 and 5 times these."""
        low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        powers = [10.0**e for e in range(low, high + 1) if self._holds(10.0**e)]
        if len(powers) < 2:
            multiples = [m * 10.0**e for e in range(low - 1, high + 1) for m in (1, 2, 5)]
            powers = [value for value in multiples if self._holds(value)]
        every = math.ceil(len(powers) / max(count, 1))
        return [(self.at(value), power_words(value)) for value in powers[::every]]

    def _holds(self, value: float) -> bool:
        return self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)


@dataclass(frozen=True)
class Choices:
    """A place for each of some names."""

    names: Sequence[str]

    def at(self, value: float | str) -> float:
        """Return the place of a name."""
        return (list(self.names).index(str(value)) + 0.5) / len(self.names)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """Return all names."""
        return [(self.at(name), name) for name in self.names]


def power_words(value: float) -> str:
    """Return a value of a logarithmic axis as a person writes it: 0.01, 500, 10⁻⁵."""
    exponent = math.log10(value)
    if abs(exponent - round(exponent)) < 1e-9 and not -3 <= exponent <= 4:
        return "10" + str(round(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value:.10g}"


def around(values: Sequence[float], *, floor: float | None = None) -> Linear:
    """Return a linear scale with a little room around values, none below the floor."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = 0.06 * (high - low) or max(abs(high) * 0.1, 0.5)
    low -= room
    return Linear(low if floor is None else max(floor, low), high + room)


def _nice_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return next(power * nice for nice in _NICE if power * nice >= rough * (1 - 1e-9))
