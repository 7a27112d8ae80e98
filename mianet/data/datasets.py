"""The table of published data sets; add an entry to register one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mianet.data.images import DatasetSpec
from mianet.data.numbers import NUMBERS
from mianet.errors import InputError

SYNTHETIC_PREFIX = "synthetic:"

DATASETS: Mapping[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            name="sun",
            title="SUN",
            folder="SUN",
            feature_dim=2048,
            attribute_dim=102,
            seen_classes=645,
            unseen_classes=72,
            trainval_images=10_320,
            test_seen_images=2_580,
            test_unseen_images=1_440,
            paper_settings={"alpha": 100.0},  # section 4.2
        ),
        DatasetSpec(
            name="cub",
            title="CUB",
            folder="CUB",
            feature_dim=2048,
            attribute_dim=312,
            seen_classes=150,
            unseen_classes=50,
            trainval_images=7_057,
            test_seen_images=1_764,
            test_unseen_images=2_967,
        ),
        DatasetSpec(
            name="awa1",
            title="AWA1",
            folder="AWA1",
            feature_dim=2048,
            attribute_dim=85,
            seen_classes=40,
            unseen_classes=10,
            trainval_images=19_832,
            test_seen_images=4_958,
            test_unseen_images=5_685,
        ),
        DatasetSpec(
            name="awa2",
            title="AWA2",
            folder="AWA2",
            feature_dim=2048,
            attribute_dim=85,
            seen_classes=40,
            unseen_classes=10,
            trainval_images=23_527,
            test_seen_images=5_882,
            test_unseen_images=7_913,
        ),
        DatasetSpec(
            name="apy",
            title="aPY",
            folder="APY",
            feature_dim=2048,
            attribute_dim=64,
            seen_classes=20,
            unseen_classes=12,
            trainval_images=5_932,
            test_seen_images=1_483,
            test_unseen_images=7_924,
        ),
        DatasetSpec(
            name="flo",
            title="FLO",
            folder="FLO",
            feature_dim=2048,
            attribute_dim=1024,
            seen_classes=82,
            unseen_classes=20,
            trainval_images=5_631,
            test_seen_images=1_403,
            test_unseen_images=1_155,
            lenient=True,  # its sentence embeddings come in several scales
        ),
        DatasetSpec(
            name="numbers",
            title="numbers",
            folder=None,
            feature_dim=128,
            attribute_dim=40,
            seen_classes=80,
            unseen_classes=20,
            trainval_images=480,
            test_seen_images=160,
            test_unseen_images=160,
            embedded=NUMBERS,
        ),
    )
}
"""Name → what is published: Xian et al., table 1 and the files of the proposed split."""


RECORDED_DIGITS = 12
"""Hex digits of its digest that follow a folder's name where runs are recorded."""
_RECORDED_NAME = re.compile(rf"(.+)-[0-9a-f]{{{RECORDED_DIGITS}}}")


@dataclass(frozen=True)
class Dataset:
    """A data set that was asked for.

    Attributes:
        name: Canonical name.
        title: The name as it is printed.
        spec: What is published about it; None for a folder of one's own.
        synthetic: Whether only the shape of what is published is meant.
    """

    name: str
    title: str
    spec: DatasetSpec | None
    synthetic: bool = False

    @property
    def paper_settings(self) -> Mapping[str, Any]:
        """Where the paper's configuration differs from Hyperparameters' defaults."""
        return self.spec.paper_settings if self.spec else {}


def is_known(name: str) -> bool:
    """Say whether a name is one of the table, maybe with the prefix "synthetic:"."""
    return name.strip().lower().removeprefix(SYNTHETIC_PREFIX) in DATASETS


def find_dataset(name: str) -> Dataset:
    """Return the data set of a name, in upper or lower case, maybe with the prefix "synthetic:".

    Args:
        name: A name of DATASETS, or one that runs of a folder of one's own are recorded under.

    Raises:
        InputError: There is none of that name.
    """
    key = name.strip().lower()
    synthetic = key.startswith(SYNTHETIC_PREFIX)
    shape = key.removeprefix(SYNTHETIC_PREFIX)
    if shape in DATASETS:
        return Dataset(key, DATASETS[shape].title, DATASETS[shape], synthetic)
    if recorded := _RECORDED_NAME.fullmatch(key):
        return Dataset(key, recorded[1], None)
    nearest = difflib.get_close_matches(shape, DATASETS, n=1, cutoff=0.5)
    prefix = SYNTHETIC_PREFIX if synthetic else ""
    hint = f"; did you mean {prefix + nearest[0]!r}?" if nearest else ""
    raise InputError(
        f"the data set must be one of {', '.join(DATASETS)}, or {SYNTHETIC_PREFIX} and one of them,"
        f" or a folder with res101.mat and att_splits.mat, but got {name!r}{hint}"
    )
