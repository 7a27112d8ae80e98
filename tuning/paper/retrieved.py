"""Figure 11: the images nearest to a class's attributes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from mianet.data.image_files import find_image
from mianet.evaluation import top_images
from tuning.paper.drawing import BLUE, RED, panels, readable
from tuning.paper.evidence import Evidence
from tuning.paper.findings import AGREES, CONTRADICTS, Claim, Findings
from tuning.paper.published import published_figures

TOP = 5
PICTURE_HEIGHT, NAME_HEIGHT = 1.45, 0.75
"""Inches of a row of pictures, and of a row where only their names are known."""

PIXELS: Mapping[str, tuple[int, int, int]] = {"numbers": (2, 8, 8)}
"""Data sets whose features are the image itself: name → (parts side by side, height, width)."""


def find(evidence: Evidence) -> Findings:
    """Return the five unseen test images nearest to each query.

    The queries are the paper's classes where it names some, elsewhere all unseen classes.
    """
    test = evidence.test
    queries = _queries(evidence)
    scores = torch.from_numpy(evidence.model("full").predict(np.array(test.test_unseen_features)))
    top = top_images(scores, torch.tensor(queries), TOP)
    rows: list[dict[str, Any]] = [
        {
            "query": test.class_names[query],
            "rank": rank,
            "image": evidence.image_names[row],
            "image_class": test.class_names[test.test_unseen_labels[row]],
            "right": bool(test.test_unseen_labels[row] == query),
            "cosine": float(scores[row, query]),
            "test_unseen_row": row,
        }
        for query, images in zip(queries, top.tolist(), strict=True)
        for rank, row in enumerate(images, start=1)
    ]
    data = pd.DataFrame(rows)
    share = float(data["right"].mean())
    right = data.groupby("query", sort=False)["right"].sum()
    return Findings(
        data=data,
        metrics={"precision_at_5": share},
        claims=(
            Claim(
                f"all {TOP} images returned for each of five classes of AWA2 are right",
                f"{data['right'].sum()} of {len(data)} are right ({100 * share:.0f}%)",
                AGREES if share == 1 else CONTRADICTS,
            ),
        ),
        sentences=(
            f"Right of {TOP}: "
            + ", ".join(f"{readable(query)} {count}" for query, count in right.items())
            + ".",
            "The model is that of the first seed.",
        ),
    )


def _queries(evidence: Evidence) -> list[int]:
    names = evidence.test.class_names
    unseen = [names[c] for c in evidence.test.unseen_classes]
    asked = published_figures().queries.get(evidence.setup.dataset, unseen)
    return [names.index(name) for name in asked]


def draw(evidence: Evidence, findings: Findings) -> Figure:
    """Draw a row for each query: its images, or their names where there are no image files."""
    queries = list(dict.fromkeys(findings.data["query"]))
    height = PICTURE_HEIGHT if _has_pictures(evidence) else NAME_HEIGHT
    figure, axes = panels(len(queries), TOP, width=1.5, height=height)
    for line, query in zip(axes, queries, strict=True):
        line[0].set_ylabel(readable(query), rotation=0, ha="right", va="center", labelpad=8)
        for panel, (_, one) in zip(
            line, findings.data[findings.data["query"] == query].iterrows(), strict=False
        ):
            _show(panel, evidence, one)
        for panel in line:
            panel.set_xticks([])
            panel.set_yticks([])
    return figure


def _show(axes: Axes, evidence: Evidence, one: Any) -> None:
    picture = _picture(evidence, one)
    if picture is None:
        parts = PureWindowsPath(one["image"]).parts
        axes.text(0.5, 0.5, "\n".join(parts[-2:]), ha="center", va="center", fontsize=7)
    else:
        axes.imshow(picture, cmap="gray_r")
    color = BLUE if one["right"] else RED
    axes.spines[:].set(visible=True, color=color, linewidth=2.2)
    axes.set_title(
        f"{'✓' if one['right'] else '✗'} {readable(one['image_class'])}  {one['cosine']:.2f}",
        fontsize=7,
        color=color,
        pad=3,
    )


def _has_pictures(evidence: Evidence) -> bool:
    return evidence.setup.dataset in PIXELS or evidence.image_folder is not None


def _picture(evidence: Evidence, one: Any) -> np.ndarray | None:
    if shape := PIXELS.get(evidence.setup.dataset):
        pixels: np.ndarray = evidence.test.test_unseen_features[one["test_unseen_row"]]
        return np.hstack(list(pixels.reshape(shape)))
    if evidence.image_folder is None:
        return None
    path = find_image(one["image"], evidence.image_folder)
    return None if path is None else np.asarray(imread(path))
