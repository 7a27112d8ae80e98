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

from mianet.data.test_parts import find_image
from mianet.evaluation import top_images
from tuning.paper.drawing import BLUE, RED, panels, readable
from tuning.paper.evidence import Evidence
from tuning.paper.findings import AGREES, CONTRADICTS, Claim, Findings
from tuning.paper.published import published

TOP = 5
PIXELS: Mapping[str, tuple[int, int, int]] = {"numbers": (2, 8, 8)}
"""Data sets whose features are the image itself: name → (parts side by side, height, width)."""


def find(evidence: Evidence) -> Findings:
    """Return the five unseen test images nearest to each query of the paper, or unseen class."""
    test, names = evidence.test, evidence.test.class_names
    unseen = [names[c] for c in test.unseen_classes]
    queries = published()["queries"].get(evidence.setup.dataset, unseen)
    ids = [names.index(name) for name in queries]
    scores = torch.from_numpy(evidence.model("full").predict(np.array(test.test_unseen_features)))
    data = pd.DataFrame(
        [
            {
                "query": query,
                "rank": rank,
                "image": evidence.image_names[row],
                "image_class": names[test.test_unseen_labels[row]],
                "right": names[test.test_unseen_labels[row]] == query,
                "cosine": float(scores[row, c]),
                "test_unseen_row": row,
            }
            for query, c, images in zip(
                queries, ids, top_images(scores, torch.tensor(ids), TOP).tolist(), strict=True
            )
            for rank, row in enumerate(images, start=1)
        ]
    )
    share = float(data["right"].mean())
    right = data.groupby("query", sort=False)["right"].sum()
    counts = ", ".join(f"{readable(query)} {count}" for query, count in right.items())
    return Findings(
        data=data,
        metrics={"precision_at_5": share},
        claims=(
            Claim(
                f"all {TOP} images returned for each of five classes of AWA2 are correct",
                f"{data['right'].sum()} of {len(data)} are correct ({100 * share:.0f}%)",
                AGREES if share == 1 else CONTRADICTS,
            ),
        ),
        sentences=(f"Correct of {TOP}: {counts}.", "The model is that of the first seed."),
    )


def draw(evidence: Evidence, findings: Findings) -> Figure:
    """Draw a row for each query: its images, or their names where there are no image files."""
    queries = findings.data["query"].unique()
    has_pictures = evidence.setup.dataset in PIXELS or evidence.image_folder is not None
    height = 1.45 if has_pictures else 0.75  # inches
    figure, axes = panels(len(queries), TOP, width=1.5, height=height)
    for line, query in zip(axes, queries, strict=True):
        line[0].set_ylabel(readable(query), rotation=0, ha="right", va="center", labelpad=8)
        images = findings.data[findings.data["query"] == query].to_dict("records")
        for panel, image in zip(line, images, strict=False):
            _show(panel, evidence, image)
        for panel in line:
            panel.set(xticks=[], yticks=[])
    return figure


def _show(axes: Axes, evidence: Evidence, image: dict[str, Any]) -> None:
    picture = _picture(evidence, image)
    if picture is None:
        parts = PureWindowsPath(image["image"]).parts
        axes.text(0.5, 0.5, "\n".join(parts[-2:]), ha="center", va="center", fontsize=7)
    else:
        axes.imshow(picture, cmap="gray_r")
    mark, color = ("✓", BLUE) if image["right"] else ("✗", RED)
    axes.spines[:].set(visible=True, color=color, linewidth=2.2)
    title = f"{mark} {readable(image['image_class'])}  {image['cosine']:.2f}"
    axes.set_title(title, fontsize=7, color=color, pad=3)


def _picture(evidence: Evidence, image: dict[str, Any]) -> np.ndarray | None:
    if shape := PIXELS.get(evidence.setup.dataset):
        pixels: np.ndarray = evidence.test.test_unseen_features[image["test_unseen_row"]]
        return np.hstack(list(pixels.reshape(shape)))
    if evidence.image_folder is None:
        return None
    path = find_image(image["image"], evidence.image_folder)
    return None if path is None else np.asarray(imread(path))
