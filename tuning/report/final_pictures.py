"""Pictures of the final training: which classes are confused, and the bias for seen ones."""

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
from tuning.tracking.reading import FinalTraining

_MOST_NAMED = 60  # classes that a picture has room to name
_MOST_NUMBERED = 14
_MOST_LETTERS = 18
_LETTER = 7.0  # width of one, about
_MOST_POINTS = 400
_BLUE = (47, 125, 189)


def confusion(classes: Confusion) -> Picture:
    """Draw the share of each class's images (row) that is taken for each class (column)."""
    count = len(classes.names)
    is_named = count <= _MOST_NAMED
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
            picture.draw("text", words, x=-8, y=middle + 4, text_anchor="end")
            picture.draw("text", words, x=middle, y=-8, text_anchor="middle")
    picture.draw("rect", x=0, y=0, width=size, height=size, class_="frame")
    picture.path([(0, seen), (size, seen)], "parted")
    picture.path([(seen, 0), (seen, size)], "parted")
    return picture


def worst_confusions(classes: Confusion, most: int = 10) -> list[tuple[str, str, float, int]]:
    """Return the worst: class, class it is mistaken for, that share, and the number of images."""
    names, wrong = classes.names, classes.shares.copy()
    np.fill_diagonal(wrong, 0)
    worst = np.argsort(wrong, axis=None, kind="stable")[::-1][:most]
    return [
        (names[c], names[d], float(wrong[c, d]), int(classes.counts[c, d]))
        for c, d in zip(*np.unravel_index(worst, wrong.shape), strict=True)
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
            chart.curve(_thinned(corners).tolist(), f"curve {role}", data_tip=tip)
    for role, final in finals.items():
        for constant, look in ((0.0, role), (final.constant, f"calibrated {role}")):
            if math.isfinite(constant):
                _mark(chart, final, constant, look)
    return chart


def _mark(chart: Chart, final: FinalTraining, constant: float, look: str) -> None:
    """Mark where a constant lies on each seed's curve."""
    for seed, curve in final.curves.items():
        tr, ts = (float(accuracy[0]) for accuracy in curve.at(np.array([constant])))
        tip = f"{final.role}, seed {seed}\nconstant {constant:.4g}\n"
        tip += f"ts: {percent(ts)}\ntr: {percent(tr)}"
        chart.dot(100 * ts, 100 * tr, 4.5, f"mark {look}", data_tip=tip)


def _thinned(corners: np.ndarray) -> np.ndarray:
    """Thin out very many corners evenly along a curve, keeping both ends."""
    if len(corners) <= _MOST_POINTS:
        return corners
    along = np.abs(np.diff(corners, axis=0)).sum(axis=1).cumsum()
    wanted = np.linspace(0, along[-1], _MOST_POINTS)
    kept = np.unique(np.searchsorted(along, wanted[1:-1]))
    return np.concatenate([corners[:1], corners[1:][kept], corners[-1:]])


def _draw_cells(picture: Picture, classes: Confusion, side: float) -> None:
    names, shares = classes.names, classes.shares
    for c, d in np.argwhere(shares):
        share, x, y = float(shares[c, d]), float(d * side), float(c * side)
        opacity = max(0.03, math.sqrt(share))  # a tenth of the images stays visible beside all
        tip = f"{names[c]}, {'correct' if c == d else f'predicted as {names[d]}'}\n"
        tip += f"{percent(share)} % ({classes.counts[c, d]:,} predictions)"
        look = {"class_": "cell", "fill_opacity": f"{opacity:.2g}", "data_tip": tip}
        picture.draw("rect", x=x, y=y, width=side, height=side, **look)
        if len(names) <= _MOST_NUMBERED and share >= 0.005:
            at = {"x": x + side / 2, "y": y + side / 2 + 4, "text_anchor": "middle"}
            ground = "over" if opacity > 0.5 else None
            picture.draw("text", f"{100 * share:.0f}", **at, class_=ground)


def _name_classes(picture: Picture, classes: Confusion, side: float) -> None:
    size = min(12.0, side * 1.05)
    for index, (name, is_unseen) in enumerate(zip(classes.names, classes.unseen, strict=True)):
        words = name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"
        look = {"class_": "strong" if is_unseen else None, "font_size": size}
        at = (index + 0.5) * side + 0.35 * size
        picture.draw("text", words, x=-6, y=at, text_anchor="end", **look)
        picture.draw("text", words, transform=f"translate({at:.1f} -6) rotate(-90)", **look)


def _draw_image(picture: Picture, shares: np.ndarray, size: float) -> None:
    """Draw the shares as an image, one pixel per cell: there are too many for elements."""
    pixels = np.empty((*shares.shape, 4), dtype=np.uint8)
    pixels[..., :3] = _BLUE
    pixels[..., 3] = np.rint(255 * np.sqrt(shares))
    file = io.BytesIO()
    imsave(file, pixels, format="png", pil_kwargs={"optimize": True})
    data = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    picture.draw("image", x=0, y=0, width=size, height=size, class_="cells", href=data)
