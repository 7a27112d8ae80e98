"""Retrieval of images by a class's attributes, and its mean average precision (section 4.5, eq. 9).

A class's attribute vector is the query; images are ranked by their cosine with it in the latent
space. Equal scores are one place in the ranking, so the order in which images are stored decides
nothing: an image's precision counts all images that score at least as high as it.
"""

from __future__ import annotations

import statistics

from jaxtyping import Float, Int64
from sklearn.metrics import average_precision_score
from torch import Tensor


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

    Raises:
        ValueError: A class has no image.
    """
    of_class, ranking = labels.cpu().numpy(), scores.cpu().numpy()
    precisions = []
    for c in classes.tolist():
        relevant = of_class == c
        if not relevant.any():
            raise ValueError(f"every query must have a relevant image, but class {c} has none")
        precisions.append(average_precision_score(relevant, ranking[:, c]))
    return statistics.fmean(precisions)


def top_images(
    scores: Float[Tensor, "images classes"], classes: Int64[Tensor, " queries"], count: int
) -> Int64[Tensor, "queries top"]:
    """Return the rows of the best images for each query, the best first (figure 11).

    Of equal scores the earlier row comes first.

    Args:
        scores: Of every image for every class.
        classes: The columns to ask for.
        count: How many images a query.
    """
    order = scores[:, classes].argsort(dim=0, descending=True, stable=True)
    return order[:count].T
