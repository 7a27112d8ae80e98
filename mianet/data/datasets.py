"""The table of data sets; a newcomer adds one entry."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mianet.data.digits import DIGITS
from mianet.data.images import DatasetSpec
from mianet.errors import InputError

SYNTHETIC_PREFIX = "synthetic:"

DATASETS: Mapping[str, DatasetSpec] = MappingProxyType(
    {
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
                paper_settings=MappingProxyType({"alpha": 100.0}),  # section 4.2
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
                name="digits",
                title="digits",
                folder=None,
                feature_dim=64,
                attribute_dim=20,
                seen_classes=8,
                unseen_classes=2,
                trainval_images=1_152,
                test_seen_images=287,
                test_unseen_images=358,
                embedded=DIGITS,
            ),
        )
    }
)
"""Name → what is published: Xian et al., table 1 and the files of the proposed split."""


@dataclass(frozen=True)
class Dataset:
    """A data set that was asked for: its canonical name, and whether only its shape is meant."""

    name: str
    spec: DatasetSpec
    synthetic: bool


def find_dataset(name: str) -> Dataset:
    """Return the data set of a name, in upper or lower case, maybe with the prefix "synthetic:".

    Raises:
        InputError: There is none of that name.
    """
    key = name.strip().lower()
    synthetic = key.startswith(SYNTHETIC_PREFIX)
    shape = key.removeprefix(SYNTHETIC_PREFIX)
    if shape in DATASETS:
        return Dataset(key, DATASETS[shape], synthetic)
    nearest = difflib.get_close_matches(shape, DATASETS, n=1, cutoff=0.5)
    prefix = SYNTHETIC_PREFIX if synthetic else ""
    hint = f"; did you mean {prefix + nearest[0]!r}?" if nearest else ""
    raise InputError(
        f"the data set must be one of {', '.join(DATASETS)}, or {SYNTHETIC_PREFIX} and one of them,"
        f" but got {name!r}{hint}"
    )
