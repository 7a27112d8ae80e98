"""SVG pictures, coloured by the page's style sheet, and the scales of their axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from matplotlib.ticker import LogLocator, MaxNLocator

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Where values lie on an axis whose ends are 0 and 1."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False  # equal ratios, not differences, are equal distances
    choices: tuple[str, ...] = ()  # instead of numbers

    def at(self, value: float | str) -> float:
        if self.choices:
            return (self.choices.index(str(value)) + 0.5) / len(self.choices)
        ends = self.low, self.high, float(value)
        low, high, scaled = map(math.log10, ends) if self.log else ends
        return (scaled - low) / (high - low or 1.0)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """Return about ``count`` places with their labels."""
        if self.choices:
            return [(self.at(name), name) for name in self.choices]
        steps = MaxNLocator(max(count, 1), steps=[1, 2, 5, 10])
        powers = LogLocator(numticks=max(count, 2)), LogLocator(subs=(1, 2, 5))
        for locator in powers if self.log else (steps,):
            found = map(float, locator.tick_values(self.low, self.high))
            values = [value for value in found if self._holds(value)]
            if len(values) > 1:
                break
        places = {_tick_name(value, self.log): self.at(value) for value in values}
        return [(place, name) for name, place in places.items()]

    def _holds(self, value: float) -> bool:
        ends = (self.low, self.high)
        return self.low <= value <= self.high or any(math.isclose(value, end) for end in ends)


def around(values: Sequence[float]) -> Scale:
    """Return a linear scale with a small margin around values, not reaching below 0."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = 0.06 * (high - low) or max(abs(high) * 0.1, 0.5)
    return Scale(max(low - room, 0.0), high + room)


@dataclass
class Picture:
    """An SVG picture; coordinates are in its own units, from the upper left."""

    label: str  # for readers who cannot see it
    width: float
    height: float
    left: float = 0.0
    top: float = 0.0
    # Its elements: tag, attributes, text.
    marks: list[tuple[str, dict[str, object], str]] = field(default_factory=list)

    def draw(self, tag: str, text: object = "", **attributes: object) -> None:
        """Add an element; numbers are rounded to a tenth of a unit.

        Args:
            tag: The element's name.
            text: Its text.
            attributes: By name; underscores become hyphens, one at the end is dropped.
        """
        named = {k.rstrip("_").replace("_", "-"): _short(v) for k, v in attributes.items()}
        self.marks.append((tag, named, str(text)))

    def path(self, points: Iterable[Point], class_: str, **attributes: object) -> None:
        corners = "L".join(f"{_short(x)} {_short(y)}" for x, y in points)
        self.draw("path", d=f"M{corners}", class_=class_, **attributes)


class Chart(Picture):
    """A picture with two axes; its origin is the upper left corner of the plot area.

    Args:
        label: What it shows, for readers who cannot see it.
        x: The horizontal axis.
        y: The vertical axis.
        titles: The titles of the axes.
        width: Of the whole picture.
        height: Of the whole picture.
    """

    def __init__(
        self,
        label: str,
        x: Scale,
        y: Scale,
        titles: tuple[str, str],
        width: float = 760,
        height: float = 320,
    ) -> None:
        super().__init__(label, width, height, left=44, top=22)
        self.x, self.y = x, y
        self.right, self.floor = width - self.left - 20, height - self.top - 40
        for share, name in y.ticks(int(self.floor / 42)):
            level = (1 - share) * self.floor
            self.path([(0, level), (self.right, level)], "grid")
            self.draw("text", name, x=-6, y=level + 4, text_anchor="end")
        for share, name in x.ticks(int(self.right / 70)):
            at = share * self.right
            if not x.choices:
                self.path([(at, self.floor), (at, self.floor + 4)], "axis")
            self.draw("text", name, x=at, y=self.floor + 17, text_anchor="middle")
        self.path([(0, self.floor), (self.right, self.floor)], "axis")
        middle = {"x": self.right / 2, "y": self.floor + 35, "text_anchor": "middle"}
        self.draw("text", titles[0], **middle, class_="name")
        self.draw("text", titles[1], x=-40, y=-10, class_="name")

    def place(self, x: float | str, y: float) -> Point:
        return self.x.at(x) * self.right, (1 - self.y.at(y)) * self.floor

    def curve(self, points: Iterable[Point], class_: str, **attributes: object) -> None:
        self.path((self.place(*point) for point in points), class_, **attributes)

    def dot(self, x: float | str, y: float, r: float, class_: str, **attributes: object) -> None:
        """Add a dot at a point.

        Args:
            x: On the horizontal axis.
            y: On the vertical axis.
            r: The radius, in the picture's units.
            class_: For the style sheet.
            attributes: As ``draw`` takes them.
        """
        cx, cy = self.place(x, y)
        self.draw("circle", cx=cx, cy=cy, r=r, class_=class_, **attributes)


def _tick_name(value: float, is_log: bool) -> str:
    """Return a value as a person writes it on an axis: 0.01, 500, 10⁻⁵."""
    exponent = round(math.log10(value)) if is_log else 0
    if math.isclose(value, 10.0**exponent) and not -3 <= exponent <= 4:
        return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value:.10g}"


def _short(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value
