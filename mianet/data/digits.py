"""The embedded data set: scikit-learn's 1,797 scanned digits, told apart by how digits are drawn.

Images are the 8×8 scans of scikit-learn's ``load_digits`` (the test part of UCI's "Optical
Recognition of Handwritten Digits"), 64 grey values of 0 to 16. The attributes of a class describe
the *ideal* digit and are known without looking at a scan: its seven-segment code, and properties of
the drawn figure such as holes, open ends, symmetry and strokes. Each is divided by its largest
value, and each class's vector by its length, as the field's files have it.

**Which digits are unseen** is decided by the attributes alone, never by an accuracy: among all
pairs whose every attribute is also shown by at least two of the other eight digits, it is the pair
that the other eight describe best, namely the one with the smallest distance of its attribute
vectors (the worse of the two) from the span of the eight's. That is 0 and 9.

``test_seen`` is a fixed, stratified 20% of the seen classes' images, as in the published splits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32

from mianet.data.images import EmbeddedSource, ImageSet

UNSEEN_DIGITS = (0, 9)
TEST_FRACTION = 0.2
SPLIT_SEED = 20170704
SEGMENTS = ("abcdef", "bc", "abdeg", "abcdg", "bcfg", "acdfg", "acdefg", "abc", "abcdefg", "abcdfg")
"""Lit segments of each digit: a top, b and c right, d bottom, e and f left, g middle."""

FIGURE: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        # digit:              0    1    2    3    4    5    6    7    8    9
        "holes":             (1.0, 0.0, 0.0, 0.0, 0.5, 0.0, 1.0, 0.0, 2.0, 1.0),
        "upper loop":        (0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 1.0, 1.0),
        "lower loop":        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0),
        "open ends":         (0.0, 2.0, 2.0, 2.0, 3.0, 2.0, 1.0, 2.0, 0.0, 1.0),
        "mirrors sideways":  (1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "mirrors upright":   (1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "half-turn":         (1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0),
        "curve":             (1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0),
        "straight line":     (0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.5),
        "slanted line":      (0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
        "corner":            (0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0),
        "second stroke":     (0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0),
        "junction":          (0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0),
    }
)  # fmt: skip
"""Properties of the drawn figure; a half is for what writers do either way, such as a closed 4."""


def digit_attributes() -> Float32[np.ndarray, "10 attributes"]:
    """Return the attribute vector of each digit, of length 1."""
    lit = [[float(segment in segments) for segment in "abcdefg"] for segments in SEGMENTS]
    table = np.concatenate([np.array(lit), np.array(list(FIGURE.values())).T], axis=1)
    table /= table.max(axis=0)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    return table.astype(np.float32)


def read_digits() -> ImageSet:
    """Return the digits with their attributes and their split."""
    from sklearn.datasets import load_digits  # takes seconds to import, and is needed only once

    scans = load_digits()
    labels = scans.target.astype(np.int64)
    generator = np.random.default_rng(SPLIT_SEED)
    test_seen = []
    for digit in (digit for digit in range(10) if digit not in UNSEEN_DIGITS):
        rows = generator.permutation(np.flatnonzero(labels == digit))
        test_seen.append(rows[: round(TEST_FRACTION * len(rows))])
    is_unseen = np.isin(labels, UNSEEN_DIGITS)
    is_test_seen = np.isin(np.arange(len(labels)), np.concatenate(test_seen))
    return ImageSet(
        features=scans.data.astype(np.float32),
        labels=labels,
        class_attributes=digit_attributes(),
        class_names=tuple(str(digit) for digit in range(10)),
        trainval=np.flatnonzero(~is_unseen & ~is_test_seen),
        test_seen=np.flatnonzero(is_test_seen),
        test_unseen=np.flatnonzero(is_unseen),
    )


def _stamp() -> str:
    ours = repr((UNSEEN_DIGITS, TEST_FRACTION, SPLIT_SEED, SEGMENTS, dict(FIGURE)))
    return f"scikit-learn {version('scikit-learn')}, {hashlib.sha256(ours.encode()).hexdigest()}"


DIGITS = EmbeddedSource(stamp=_stamp, read=read_digits)
