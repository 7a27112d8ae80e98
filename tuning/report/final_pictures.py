"""Pictures of the final training: which classes are taken for which, and the bias for seen ones."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Mapping

import numpy as np

from tuning.report.charts import Chart, path_through, picture, short, text
from tuning.report.markup import Html, element
from tuning.report.scales import Linear
from tuning.report.subject import percent
from tuning.spec.final_files import Confusion
from tuning.tracking.recorded_studies import FinalTraining

MOST_NAMED = 60
"""Classes that a picture has room to name."""

_MOST_NUMBERED = 14
_MOST_LETTERS = 18
_MOST_POINTS = 400
_LETTER = 7.0
"""Width of a letter, about."""


def confusion(classes: Confusion) -> Html:
    """Draw which share of a class's images (row) is taken for each class (column)."""
    count, shares = len(classes.names), classes.shares
    named = count <= MOST_NAMED
    longest = min(_MOST_LETTERS, max(map(len, classes.names)))
    left = 12 + _LETTER * longest if named else 60.0
    side = min(46.0, max(10.0, 560 / count)) if named else 620 / count
    size = side * count
    cells = _cells(classes, shares, side) if named else [_image(shares, size)]
    seen = count - sum(classes.unseen)
    at = short(seen * side)
    parting = [
        element("line", x1=0, x2=short(size), y1=at, y2=at, class_="parted"),
        element("line", x1=at, x2=at, y1=0, y2=short(size), class_="parted"),
    ]
    frame = element("rect", x=0, y=0, width=short(size), height=short(size), class_="frame")
    top = left if named else 24.0
    names = _names(classes, side) if named else _sides(seen * side, size)
    return picture(
        f"Confusion between {count} classes",
        left + size + 12,
        top + size + 12,
        element("g", *cells, frame, *parting, *names, transform=f"translate({left} {top})"),
    )


def worst_confusions(classes: Confusion, most: int = 10) -> list[tuple[str, str, float, int]]:
    """Return class, what it is most often taken for wrongly, that share, and the images."""
    wrong = classes.shares.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(wrong, axis=None, kind="stable")[::-1][:most]
    pairs = (divmod(int(position), len(classes.names)) for position in order)
    return [
        (classes.names[c], classes.names[d], float(wrong[c, d]), int(classes.counts[c, d]))
        for c, d in pairs
        if wrong[c, d] > 0
    ]


def seen_unseen(finals: Mapping[str, FinalTraining]) -> Html:
    """Draw tr against ts of every seed, as the constant goes from −∞ to ∞."""
    curves = [curve for final in finals.values() for curve in final.curves.values()]
    widest = max((float(curve.unseen_accuracy[-1]) for curve in curves), default=1.0)
    highest = max((float(curve.seen_accuracy[0]) for curve in curves), default=1.0)
    chart = Chart(
        Linear(0, max(105 * widest, 1.0)),
        Linear(0, max(105 * highest, 1.0)),
        "ts, unseen classes (%)",
        "tr, seen classes (%)",
        width=560,
        height=420,
    )
    lines, dots = [], []
    for role, final in finals.items():
        for seed, curve in final.curves.items():
            corners = np.column_stack([curve.unseen_accuracy, curve.seen_accuracy]) * 100
            places = [chart.place(x, y) for x, y in _thinned(corners)]
            tip = f"{role}, seed {seed}\nAUSUC: {percent(curve.area)}"
            look = f"curve {role}"
            lines.append(element("path", d=path_through(places), class_=look, data_tip=tip))
            dots.append(_mark(chart, final, seed, 0.0, role))
            if math.isfinite(final.constant):
                dots.append(_mark(chart, final, seed, final.constant, "calibrated"))
    return chart.drawn("Seen against unseen accuracy at every calibration", *lines, *dots)


def _mark(chart: Chart, final: FinalTraining, seed: int, constant: float, look: str) -> Html:
    """Mark where a constant lies on a seed's curve."""
    (tr,), (ts,) = final.curves[seed].at(np.array([constant]))
    x, y = chart.place(100 * float(ts), 100 * float(tr))
    tip = (
        f"{final.role}, seed {seed}\nconstant {constant:.4g}\nts: {percent(float(ts))}\n"
        f"tr: {percent(float(tr))}"
    )
    return element("circle", cx=short(x), cy=short(y), r=4.5, class_=f"mark {look}", data_tip=tip)


def _thinned(corners: np.ndarray) -> np.ndarray:
    """Return corners evenly along a curve, the ends among them, where there are very many."""
    if len(corners) <= _MOST_POINTS:
        return corners
    along = np.abs(np.diff(corners, axis=0)).sum(axis=1).cumsum()
    wanted = np.linspace(0, along[-1], _MOST_POINTS)
    kept = np.unique(np.searchsorted(along, wanted[1:-1]))
    return np.concatenate([corners[:1], corners[1:][kept], corners[-1:]])


def _cells(classes: Confusion, shares: np.ndarray, side: float) -> list[Html]:
    cells = []
    for c, d in zip(*np.nonzero(shares), strict=True):
        share, x, y = float(shares[c, d]), d * side, c * side
        images = int(classes.counts[c, d])
        tip = (
            f"{classes.names[c]}, {'named rightly' if c == d else f'taken for {classes.names[d]}'}"
            f"\n{percent(share)} % ({images:,} predictions)"
        )
        cells.append(
            element(
                "rect",
                x=short(x),
                y=short(y),
                width=short(side),
                height=short(side),
                fill_opacity=f"{_opacity(share):.2g}",
                class_="cell",
                data_tip=tip,
            )
        )
        if len(classes.names) <= _MOST_NUMBERED and share >= 0.005:
            middle, below = x + side / 2, y + side / 2 + 4
            over = "over" if _opacity(share) > 0.5 else None
            cells.append(text(middle, below, f"{100 * share:.0f}", anchor="middle", class_=over))
    return cells


def _opacity(share: float) -> float:
    """Return how deep a cell's colour is: a tenth of the images is to be seen beside all."""
    return max(0.03, math.sqrt(share))


def _names(classes: Confusion, side: float) -> list[Html]:
    parts = []
    for index, name in enumerate(classes.names):
        middle = (index + 0.5) * side
        words = name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"
        look = "strong" if classes.unseen[index] else None
        small = min(12.0, side * 1.05)
        for turn in (
            {"x": -6, "y": short(middle + 0.35 * small), "text_anchor": "end"},
            {"transform": f"translate({short(middle + 0.35 * small)} -6) rotate(-90)"},
        ):
            parts.append(element("text", words, class_=look, font_size=short(small), **turn))
    return parts


def _sides(seen: float, size: float) -> list[Html]:
    """Name the seen and the unseen classes, where there are too many to name each."""
    parts = []
    for words, middle in (("seen", seen / 2), ("unseen", (seen + size) / 2)):
        parts.append(text(-8, middle + 4, words, anchor="end"))
        parts.append(text(middle, -8, words, anchor="middle"))
    return parts


def _image(shares: np.ndarray, size: float) -> Html:
    """Return the shares as a picture of a pixel a cell: as elements they would be too many."""
    data = base64.b64encode(_png(np.rint(255 * np.sqrt(shares)).astype(np.uint8))).decode()
    return element(
        "image",
        x=0,
        y=0,
        width=short(size),
        height=short(size),
        class_="cells",
        href=f"data:image/png;base64,{data}",
    )


def _png(opacity: np.ndarray) -> bytes:
    """Return a PNG of one blue, more or less opaque."""
    height, width = opacity.shape
    pixels = np.empty((height, width, 4), dtype=np.uint8)
    pixels[..., :3] = (47, 125, 189)
    pixels[..., 3] = opacity
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    compressed = zlib.compress(lines, 9)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", compressed)
        + chunk(b"IEND", b"")
    )
