"""Data as people have them: scanned digits that scikit-learn brings, and how digits are drawn."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SEGMENTS = ("abcdef", "bc", "abdeg", "abcdg", "bcfg", "acdfg", "acdefg", "abc", "abcdefg", "abcdfg")
HOLES = (1, 0, 0, 0, 0.5, 0, 1, 0, 2, 1)


def scans() -> tuple[np.ndarray, np.ndarray]:
    """Return the features of 1,797 images, and their classes' names."""
    digits = load_digits()
    return digits.data.astype(np.float32), np.array(NAMES)[digits.target]


def attribute_table() -> np.ndarray:
    """Return which of seven segments each digit lights, and its holes."""
    lit = [[float(segment in segments) for segment in "abcdefg"] for segments in SEGMENTS]
    return np.column_stack([lit, HOLES])


def write_own_data(folder: Path) -> None:
    """Write ``features.npy``, ``labels.txt`` and ``attributes.csv``."""
    features, labels = scans()
    np.save(folder / "features.npy", features)
    (folder / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    lines = ["class,top,right,right2,bottom,left2,left,middle,holes"]
    for name, row in zip(NAMES, attribute_table(), strict=True):
        lines.append(f"{name}," + ",".join(f"{value:g}" for value in row))
    (folder / "attributes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
