"""The table of published data sets; add an entry to register one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mianet.data.images import DatasetSpec
from mianet.errors import InputError

SYNTHETIC_PREFIX = "synthetic:"

# fmt: off
DATASETS: Mapping[str, DatasetSpec] = {spec.name: spec for spec in (
    # name, title, folder; features, attributes; classes: seen, unseen; images: trainval, test seen,
    # test unseen
    DatasetSpec("sun", "SUN", "SUN", 2048, 102, 645, 72, 10_320, 2_580, 1_440,
                paper_settings={"alpha": 100.0}),  # section 4.2
    DatasetSpec("cub", "CUB", "CUB", 2048, 312, 150, 50, 7_057, 1_764, 2_967),
    DatasetSpec("awa1", "AWA1", "AWA1", 2048, 85, 40, 10, 19_832, 4_958, 5_685),
    DatasetSpec("awa2", "AWA2", "AWA2", 2048, 85, 40, 10, 23_527, 5_882, 7_913),
    DatasetSpec("apy", "aPY", "APY", 2048, 64, 20, 12, 5_932, 1_483, 7_924),
    DatasetSpec("flo", "FLO", "FLO", 2048, 1024, 82, 20, 5_631, 1_403, 1_155,
                lenient=True),  # its sentence embeddings come in several scales
    DatasetSpec("numbers", "numbers", None, 128, 40, 80, 20, 480, 160, 160),
)}
# fmt: on
"""Name → the published figures: Xian et al., table 1 and the files of the proposed split."""


RECORDED_DIGITS = 12  # hex digits of its digest appended to a folder's name in recorded runs
_RECORDED_NAME = re.compile(rf"(.+)-[0-9a-f]{{{RECORDED_DIGITS}}}")


@dataclass(frozen=True)
class Dataset:
    """A requested data set, with its canonical name and its printed title."""

    name: str
    title: str
    spec: DatasetSpec | None  # None for your own folder
    synthetic: bool = False  # whether only the published shape is used

    @property
    def paper_settings(self) -> Mapping[str, Any]:
        return self.spec.paper_settings if self.spec else {}


def is_known(name: str) -> bool:
    """Tell whether a name is in the table, with or without the prefix "synthetic:"."""
    return name.strip().lower().removeprefix(SYNTHETIC_PREFIX) in DATASETS


def find_dataset(name: str) -> Dataset:
    """Return the data set of a name, in any case, with or without the prefix "synthetic:".

    The name may also be one under which runs of your own folder are recorded.
    """
    key = name.strip().lower()
    synthetic, shape = key.startswith(SYNTHETIC_PREFIX), key.removeprefix(SYNTHETIC_PREFIX)
    if shape in DATASETS:
        return Dataset(key, DATASETS[shape].title, DATASETS[shape], synthetic)
    if recorded := _RECORDED_NAME.fullmatch(key):
        return Dataset(key, recorded[1], None)
    nearest = difflib.get_close_matches(shape, DATASETS, n=1, cutoff=0.5)
    prefix = SYNTHETIC_PREFIX if synthetic else ""
    hint = f"; did you mean {prefix + nearest[0]!r}?" if nearest else ""
    raise InputError(
        f"the data set must be one of {', '.join(DATASETS)}, {SYNTHETIC_PREFIX}<one of them>, or "
        f"a folder with res101.mat and att_splits.mat, but got {name!r}{hint}"
    )
