"""Which classes are seen or unseen, and which images are held out (paper, section 4.2)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mianet.data.search_data import SearchData

UNSEEN_SHARE = 0.2
"""Share of the seen classes that are pseudo-unseen in an execution (section 4.2)."""
HELDOUT_SHARE = 0.2
"""Share of each pseudo-seen class's images that is held out (section 4.2)."""
TRAINED_SHARE = (1 - UNSEEN_SHARE) * (1 - HELDOUT_SHARE)
"""Share of trainval's images that an execution trains on; exact where classes are equally large."""


@dataclass(frozen=True)
class Subset:
    """Some rows of an array of images; the subsets of a data set share the array."""

    features: Float[Tensor, "images features"]  # all images, on the training device
    # class of each image, a row of the task's ``class_attributes``
    labels: Int64[Tensor, " images"]
    rows: Int64[Tensor, " rows"]  # the images that belong to this subset

    @cached_property
    def own_labels(self) -> Int64[Tensor, " rows"]:
        """Return the class of each of its images."""
        return self.labels[self.rows]

    @cached_property
    def class_counts(self) -> Int64[Tensor, " classes"]:
        """Return the number of its images in each class, up to the last class that has any."""
        return torch.bincount(self.own_labels)


@dataclass(frozen=True)
class Task:
    """The classes and images to train and score on; final and validation tasks are alike."""

    class_attributes: Float[Tensor, "classes attributes"]  # one row per class of this task
    # rows of ``class_attributes`` that training images belong to
    seen_classes: Int64[Tensor, " seen"]
    unseen_classes: Int64[Tensor, " unseen"]  # the other rows
    train: Subset  # training images, of seen classes
    heldout_seen: Subset  # images of seen classes that are scored (tr)
    heldout_unseen: Subset  # images of unseen classes that are scored (ts, T1)


def draw_validation(
    labels: Int64[np.ndarray, " images"], classes: int, *, execution: int, seed: int
) -> dict[str, Int64[np.ndarray, " _"]]:
    """Draw execution ``execution`` of a search (section 4.2).

    20% of the seen classes become pseudo-unseen, and 20% of each other class's images are held
    out. The draw depends only on the labels, the seed and the execution, so all trials of a search
    get the same draws.

    Args:
        labels: Class of each trainval image, 0 … classes - 1.
        classes: Number of seen classes; at least 3.
        execution: Which draw, 0-based.
        seed: Seed of the search.

    Returns:
        The classes and the images of a ``Task``, by the names of its attributes.
    """
    random = np.random.default_rng([seed, execution])
    shuffled = random.permutation(classes)
    unseen_count = min(max(1, round(UNSEEN_SHARE * classes)), classes - 2)
    unseen = np.sort(shuffled[:unseen_count])
    seen = np.sort(shuffled[unseen_count:])
    train, heldout = [], []
    for label in seen:
        rows = random.permutation(np.flatnonzero(labels == label))
        heldout_count = min(max(1, round(HELDOUT_SHARE * len(rows))), len(rows) - 1)
        heldout.append(rows[:heldout_count])
        train.append(rows[heldout_count:])
    return {
        "seen_classes": seen,
        "unseen_classes": unseen,
        "train": np.sort(np.concatenate(train)),
        "heldout_seen": np.sort(np.concatenate(heldout)),
        "heldout_unseen": np.flatnonzero(np.isin(labels, unseen)),
    }


def validation_tasks(
    data: SearchData, *, executions: int, seed: int, device: torch.device, first: int = 0
) -> list[Task]:
    """Return the tasks of some executions, starting at ``first``; they share one image array.

    Args:
        data: What a search may see.
        executions: How many.
        seed: Seed of the draws.
        device: Where the tensors go.
        first: Number of the first execution.
    """
    features, labels, attributes = (
        as_tensor(array, device) for array in (data.features, data.labels, data.class_attributes)
    )
    tasks = []
    for execution in range(first, first + executions):
        drawn = draw_validation(data.labels, len(attributes), execution=execution, seed=seed)
        tensors = {name: as_tensor(array, device) for name, array in drawn.items()}
        seen, unseen = tensors.pop("seen_classes"), tensors.pop("unseen_classes")
        subsets = {name: Subset(features, labels, rows) for name, rows in tensors.items()}
        tasks.append(Task(attributes, seen, unseen, **subsets))
    return tasks


def as_tensor(array: np.ndarray, device: torch.device) -> Tensor:
    """Return the array on the device; on the CPU it shares the memory, which is never written."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array).to(device)
