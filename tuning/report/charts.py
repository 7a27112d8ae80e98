"""A picture with two axes, as SVG that the page's style colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuning.report.markup import Html, element, joined
from tuning.report.scales import Choices, Scale

LINE_HEIGHT = 14
_TICK_EVERY = 70  # of the horizontal axis
_TICK_EVERY_UP = 42


@dataclass(frozen=True)
class Chart:
    """The frame of a picture; places on it are in its own units, from the upper left.

    Attributes:
        x: What lies on the horizontal axis.
        y: What lies on the vertical one.
        x_title: Name of the horizontal axis.
        y_title: Name of the vertical one.
        width: Of the whole picture.
        height: Of the whole picture.
        left: Room for the vertical axis.
    """

    x: Scale
    y: Scale
    x_title: str
    y_title: str
    width: float = 760
    height: float = 320
    left: float = 44

    top, right, bottom = 22.0, 12.0, 40.0

    def place(self, x: float | str, y: float) -> tuple[float, float]:
        """Return where a point lies."""
        return (
            self.left + self.x.at(x) * (self.width - self.left - self.right),
            self.height - self.bottom - self.y.at(y) * (self.height - self.top - self.bottom),
        )

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        """Return points as the line of an SVG path."""
        return path_through([self.place(*point) for point in points])

    def level(self, y: float, class_: str) -> Html:
        """Return a line across at a value."""
        _, height = self.place_of_y(y)
        return element(
            "line",
            x1=self.left,
            x2=self.width - self.right,
            y1=short(height),
            y2=short(height),
            class_=class_,
        )

    def place_of_y(self, y: float) -> tuple[float, float]:
        """Return where a value meets the vertical axis."""
        height = self.height - self.top - self.bottom
        return self.left, self.height - self.bottom - self.y.at(y) * height

    def drawn(self, label: str, *content: Html) -> Html:
        """Return the picture: the axes, and on them the content.

        Args:
            label: What it shows, for who cannot see it.
            content: What is drawn.
        """
        return picture(label, self.width, self.height, self._axes(), *content)

    def _axes(self) -> Html:
        right, floor = self.width - self.right, self.height - self.bottom
        parts = []
        for share, name in self.y.ticks(int((floor - self.top) / _TICK_EVERY_UP)):
            y = short(floor - share * (floor - self.top))
            parts.append(element("line", x1=self.left, x2=right, y1=y, y2=y, class_="grid"))
            parts.append(text(self.left - 6, float(y) + 4, name, anchor="end"))
        for share, name in self.x.ticks(int((right - self.left) / _TICK_EVERY)):
            x = self.left + share * (right - self.left)
            if not isinstance(self.x, Choices):
                parts.append(
                    element("line", x1=short(x), x2=short(x), y1=floor, y2=floor + 4, class_="axis")
                )
            parts.append(text(x, floor + 17, name, anchor="middle"))
        parts.append(
            element("line", x1=self.left, x2=right, y1=floor, y2=floor, class_="axis"),
        )
        middle = (self.left + right) / 2
        parts.append(text(middle, self.height - 5, self.x_title, anchor="middle", class_="name"))
        parts.append(text(4, 12, self.y_title, class_="name"))
        return joined(parts)


def picture(label: str, width: float, height: float, *content: Html) -> Html:
    """Return an SVG picture that scales with the page."""
    return element(
        "svg",
        element("title", label),
        *content,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=label,
        style=f"--w:{width:g}",
    )


def text(
    x: float, y: float, words: object, *, anchor: str | None = None, class_: str | None = None
) -> Html:
    """Return text at a place."""
    return element("text", words, x=short(x), y=short(y), text_anchor=anchor, class_=class_)


def path_through(places: Sequence[tuple[float, float]]) -> str:
    """Return a line through places, as a path's ``d``."""
    return "M" + "L".join(f"{short(x)} {short(y)}" for x, y in places)


def short(number: float) -> str:
    """Return a coordinate with a tenth of a unit."""
    return f"{number:.1f}".removesuffix(".0")
