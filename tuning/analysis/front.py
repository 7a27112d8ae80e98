"""The Pareto front: what nothing else is better than in every respect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

K = TypeVar("K")


def pareto_front(points: Mapping[K, Sequence[float]]) -> list[K]:
    """Return whose point no other dominates, by the first value, the highest first.

    A point dominates another if it is nowhere lower and somewhere higher; equal points do not.

    Args:
        points: Name → values, all to be maximised.
    """
    front = [
        name
        for name, point in points.items()
        if not any(_dominates(other, point) for other in points.values())
    ]
    return sorted(front, key=lambda name: tuple(-value for value in points[name]))


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)
