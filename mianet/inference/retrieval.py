"""Retrieval of images by a class's attributes, and its mean average precision (section 4.5, eq. 9).

A class's attribute vector is the query; images are ranked by their cosine with it in the latent
space. Equal scores are one place in the ranking, so the order in which images are stored decides
nothing: an image's precision counts all images that score at least as high as it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def average_precision(
    scores: Float[Tensor, " images"], relevant: Float[Tensor, " images"]
) -> float:
    """Return the mean, over the relevant images, of the precision at their place.

    Args:
        scores: The higher, the earlier an image is retrieved.
        relevant: 1 for the images of the query's class, 0 for others; at least one is 1.

    Raises:
        ValueError: No image is relevant.
    """
    if not relevant.any():
        raise ValueError("average precision must have a relevant image, but there is none")
    order = scores.argsort(descending=True)
    ranked, hits = scores[order], relevant[order].double().cumsum(0)
    # The last place of each group of equal scores stands for the whole group.
    last = torch.ones(len(ranked), dtype=torch.bool, device=ranked.device)
    last[:-1] = ranked[1:] < ranked[:-1]
    places = last.nonzero()[:, 0]
    found = hits[places]
    new = torch.diff(found, prepend=found.new_zeros(1))
    return float((new * found / (places + 1)).sum() / found[-1])


def mean_average_precision(
    scores: Float[Tensor, "images classes"],
    labels: Int64[Tensor, " images"],
    classes: Int64[Tensor, " queries"],
) -> float:
    """Return the mean of the average precision over the queries (eq. 9).

    Args:
        scores: Cosine of every image with every class.
        labels: Class of each image.
        classes: The classes whose attributes are the queries; each has an image.
    """
    precisions = [
        average_precision(scores[:, c], (labels == c).to(scores.dtype)) for c in classes.tolist()
    ]
    return sum(precisions) / len(precisions)


def top_images(
    scores: Float[Tensor, "images classes"], classes: Int64[Tensor, " queries"], count: int
) -> Int64[Tensor, "queries top"]:
    """Return the rows of the best images for each query, the best first (figure 11).

    Of equal scores the earlier row comes first.
    """
    order = scores[:, classes].argsort(dim=0, descending=True, stable=True)
    return order[:count].T
