"""Figure 11: the images that are nearest to each unseen class's attributes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PureWindowsPath
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from mianet.data.image_files import find_image
from mianet.inference.retrieval import top_images
from tuning.paper.drawing import BLUE, RED, panels, readable
from tuning.paper.evidence import Evidence
from tuning.paper.findings import Findings

TOP = 5
MAX_CLASSES = 10
"""Unseen classes that the picture shows; the data has all."""

PICTURE_HEIGHT, NAME_HEIGHT = 1.45, 0.75
"""Inches of a row of pictures, and of a row where only their names are known."""

PIXELS: Mapping[str, tuple[int, int]] = MappingProxyType({"digits": (8, 8)})
"""Data sets whose features are the image itself: name → (height, width)."""


def find(evidence: Evidence) -> Findings:
    """Return the five nearest unseen test images of each unseen class."""
    test = evidence.test
    scores = torch.from_numpy(evidence.model("full").predict(np.array(test.test_unseen_features)))
    top = top_images(scores, torch.from_numpy(test.unseen_classes.copy()), TOP)
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
        for query, images in zip(test.unseen_classes.tolist(), top.tolist(), strict=True)
        for rank, row in enumerate(images, start=1)
    ]
    data = pd.DataFrame(rows)
    share = float(data["right"].mean())
    return Findings(
        data=data,
        metrics={"precision_at_5": share},
        sentences=(
            f"{data['right'].sum()} of the {len(data)} images retrieved for "
            f"{len(test.unseen_classes)} unseen classes are of the class that was asked for "
            f"({100 * share:.0f}%).",
            "The model is that of the first seed.",
        ),
    )


def draw(evidence: Evidence, findings: Findings) -> Figure:
    """Draw a row a class: each image where there is one, else its name, framed right or wrong."""
    queries = list(dict.fromkeys(findings.data["query"]))[:MAX_CLASSES]
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
        return pixels.reshape(shape)
    if evidence.image_folder is None:
        return None
    path = find_image(one["image"], evidence.image_folder)
    return None if path is None else np.asarray(imread(path))
