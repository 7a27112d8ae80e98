"""Write HTML and SVG that nobody's names can break out of: what is not markup is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

_EMPTY = frozenset({"meta", "circle", "line", "path", "rect", "image", "polygon"})
"""Elements that have no content here, and so no end tag in HTML or a short one in SVG."""


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def element(name: str, /, *children: object, **attributes: object) -> Html:
    """Return an element.

    Args:
        name: Of its tag.
        children: Markup as it is, everything else as escaped text.
        attributes: Their values are escaped; None leaves one out, True gives it no value. In names
            a trailing underscore is dropped (``class_``) and others become hyphens.
    """
    opening = name
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        opening += f" {attribute}" if value is True else f' {attribute}="{_escaped(value)}"'
    if name in _EMPTY and not children:
        return Html(f"<{opening}/>" if name != "meta" else f"<{opening}>")
    return Html(f"<{opening}>{joined(children)}</{name}>")


def joined(parts: Iterable[object]) -> Html:
    """Return the parts one after another, those that are no markup as escaped text."""
    return Html("".join(part if isinstance(part, Html) else _escaped(part) for part in parts))


def note(words: str) -> Html:
    """Return a paragraph beside the matter: what a table means, or why there is none."""
    return element("p", words, class_="note")


def table(heading: Sequence[object], rows: Iterable[Iterable[object]]) -> Html:
    """Return a table; the first column names its rows."""
    return grouped_table(heading, [("", rows)])


def grouped_table(
    heading: Sequence[object], groups: Iterable[tuple[str, Iterable[Iterable[object]]]]
) -> Html:
    """Return a table whose rows come in groups, each below its name if it has one."""
    head = element("tr", *(element("th", cell, scope="col") for cell in heading))
    bodies = []
    for name, rows in groups:
        lines = [_row(row) for row in rows]
        if name:
            over = element("th", name, colspan=len(heading), scope="rowgroup")
            lines.insert(0, element("tr", over))
        bodies.append(element("tbody", *lines))
    return element("div", element("table", element("thead", head), *bodies), class_="scroll")


def _row(cells: Iterable[object]) -> Html:
    first, *rest = cells
    return element("tr", element("th", first, scope="row"), *(element("td", c) for c in rest))


def _escaped(value: object) -> str:
    return html.escape(str(value), quote=True)
