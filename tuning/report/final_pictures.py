"""Pictures of the final training: which classes are taken for which, and the bias for seen ones."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping

import numpy as np
from matplotlib.image import imsave

from tuning.report.charts import Chart, Picture, Scale
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
_BLUE = (47, 125, 189)


def confusion(classes: Confusion) -> Picture:
    """Draw which share of a class's images (row) is taken for each class (column)."""
    count = len(classes.names)
    is_named = count <= MOST_NAMED
    longest = min(_MOST_LETTERS, max(map(len, classes.names)))
    left = 12 + _LETTER * longest if is_named else 60.0
    top = left if is_named else 24.0
    side = min(46.0, max(10.0, 560 / count)) if is_named else 620 / count
    size, seen = side * count, side * (count - sum(classes.unseen))
    label = f"Confusion between {count} classes"
    picture = Picture(label, left + size + 12, top + size + 12, left, top)
    if is_named:
        _draw_cells(picture, classes, side)
        _name_classes(picture, classes, side)
    else:
        _draw_image(picture, classes.shares, size)
        for words, middle in (("seen", seen / 2), ("unseen", (seen + size) / 2)):
            picture.write(-8, middle + 4, words, text_anchor="end")
            picture.write(middle, -8, words, text_anchor="middle")
    picture.draw("rect", x=0, y=0, width=size, height=size, class_="frame")
    picture.across(seen, 0, size, "parted")
    picture.upright(seen, 0, size, "parted")
    return picture


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


def seen_unseen(finals: Mapping[str, FinalTraining]) -> Picture:
    """Draw tr against ts of every seed, as the constant goes from −∞ to ∞."""
    curves = [curve for final in finals.values() for curve in final.curves.values()]
    widest = max(float(curve.unseen_accuracy[-1]) for curve in curves)
    highest = max(float(curve.seen_accuracy[0]) for curve in curves)
    chart = Chart(
        "Seen against unseen accuracy at every calibration",
        Scale(0, max(105 * widest, 1.0)),
        Scale(0, max(105 * highest, 1.0)),
        ("ts, unseen classes (%)", "tr, seen classes (%)"),
        width=560,
        height=420,
    )
    for role, final in finals.items():
        for seed, curve in final.curves.items():
            corners = np.column_stack([curve.unseen_accuracy, curve.seen_accuracy]) * 100
            tip = f"{role}, seed {seed}\nAUSUC: {percent(curve.area)}"
            points = [(float(x), float(y)) for x, y in _thinned(corners)]
            chart.curve(points, f"curve {role}", data_tip=tip)
    for role, final in finals.items():
        for seed in final.curves:
            _mark(chart, final, seed, 0.0, role)
            if math.isfinite(final.constant):
                _mark(chart, final, seed, final.constant, "calibrated")
    return chart


def _mark(chart: Chart, final: FinalTraining, seed: int, constant: float, look: str) -> None:
    """Mark where a constant lies on a seed's curve."""
    tr, ts = (float(accuracy[0]) for accuracy in final.curves[seed].at(np.array([constant])))
    tip = (
        f"{final.role}, seed {seed}\nconstant {constant:.4g}\nts: {percent(ts)}\ntr: {percent(tr)}"
    )
    chart.dot(100 * ts, 100 * tr, 4.5, f"mark {look}", data_tip=tip)


def _thinned(corners: np.ndarray) -> np.ndarray:
    """Return corners evenly along a curve, the ends among them, where there are very many."""
    if len(corners) <= _MOST_POINTS:
        return corners
    along = np.abs(np.diff(corners, axis=0)).sum(axis=1).cumsum()
    wanted = np.linspace(0, along[-1], _MOST_POINTS)
    kept = np.unique(np.searchsorted(along, wanted[1:-1]))
    return np.concatenate([corners[:1], corners[1:][kept], corners[-1:]])


def _draw_cells(picture: Picture, classes: Confusion, side: float) -> None:
    shares = classes.shares
    for c, d in np.argwhere(shares):
        share, x, y = float(shares[c, d]), float(d * side), float(c * side)
        taken_for = "named rightly" if c == d else f"taken for {classes.names[d]}"
        opacity = max(0.03, math.sqrt(share))  # a tenth of the images is seen beside all of them
        picture.draw(
            "rect",
            x=x,
            y=y,
            width=side,
            height=side,
            fill_opacity=f"{opacity:.2g}",
            class_="cell",
            data_tip=f"{classes.names[c]}, {taken_for}\n"
            f"{percent(share)} % ({classes.counts[c, d]:,} predictions)",
        )
        if len(classes.names) <= _MOST_NUMBERED and share >= 0.005:
            look = "over" if opacity > 0.5 else None
            middle, below = x + side / 2, y + side / 2 + 4
            picture.write(middle, below, f"{100 * share:.0f}", text_anchor="middle", class_=look)


def _name_classes(picture: Picture, classes: Confusion, side: float) -> None:
    size = min(12.0, side * 1.05)
    for index, (name, is_unseen) in enumerate(zip(classes.names, classes.unseen, strict=True)):
        words = name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"
        look = "strong" if is_unseen else None
        at = (index + 0.5) * side + 0.35 * size
        picture.write(-6, at, words, text_anchor="end", class_=look, font_size=size)
        turn = f"translate({at:.1f} -6) rotate(-90)"
        picture.draw("text", words, transform=turn, class_=look, font_size=size)


def _draw_image(picture: Picture, shares: np.ndarray, size: float) -> None:
    """Draw the shares as an image of a pixel a cell: as elements they would be too many."""
    pixels = np.empty((*shares.shape, 4), dtype=np.uint8)
    pixels[..., :3] = _BLUE
    pixels[..., 3] = np.rint(255 * np.sqrt(shares))
    file = io.BytesIO()
    imsave(file, pixels, format="png", pil_kwargs={"optimize": True})
    data = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    picture.draw("image", x=0, y=0, width=size, height=size, class_="cells", href=data)
