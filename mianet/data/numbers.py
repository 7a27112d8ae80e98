"""The embedded data set ``numbers``: 00 … 99 composed of scanned digits; see docs/data.md.

An image is two of scikit-learn's 1,797 scans, the 64 grey values (0 to 16) of each; no scan is used
twice. A class's attributes are those of its ideal digits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version

import numpy as np
from jaxtyping import Float32

from mianet.data.images import ImageSet

UNSEEN_DIFFERENCES = (3, 7)
IMAGES_PER_CLASS = 8
TEST_IMAGES_PER_CLASS = 2
PAIRING_SEED = 20211016
SEGMENTS = ("abcdef", "bc", "abdeg", "abcdg", "bcfg", "acdfg", "acdefg", "abc", "abcdefg", "abcdfg")
"""Lit segments of each digit: a top, b and c right, d bottom, e and f left, g middle."""

FIGURE: Mapping[str, tuple[float, ...]] = {
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
    }  # fmt: skip
"""Properties of the drawn figure; a half means that writers vary, such as in closing a 4."""


def digit_attributes() -> Float32[np.ndarray, "10 attributes"]:
    """Return the attribute vector of each digit, of length 1."""
    lit = [[float(segment in segments) for segment in "abcdefg"] for segments in SEGMENTS]
    table = np.concatenate([np.array(lit), np.array(list(FIGURE.values())).T], axis=1)
    table /= table.max(axis=0)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    return table.astype(np.float32)


def number_attributes() -> Float32[np.ndarray, "100 attributes"]:
    """Return the attributes of 00 … 99: those of the first digit, then the second; length 1."""
    digits = digit_attributes()
    tens, units = np.divmod(np.arange(100), 10)
    return np.concatenate([digits[tens], digits[units]], axis=1) / np.float32(np.sqrt(2))


def read_numbers() -> ImageSet:
    """Return the numbers with their attributes and their split.

    Two of the eight images of each seen class are ``test_seen``; all images of an unseen class
    are ``test_unseen``.
    """
    from sklearn.datasets import load_digits  # takes seconds to import, and is needed only once

    scans = load_digits()
    random = np.random.default_rng(PAIRING_SEED)
    tens, units = np.divmod(np.repeat(np.arange(100), IMAGES_PER_CLASS), 10)
    digits = np.stack([tens, units])
    rows = np.empty_like(digits)
    for digit in range(10):
        places = digits == digit
        chosen = random.permutation(np.flatnonzero(scans.target == digit))
        rows[places] = chosen[: places.sum()]
    labels = np.repeat(np.arange(100, dtype=np.int64), IMAGES_PER_CLASS)
    is_unseen = np.isin((units - tens) % 10, UNSEEN_DIFFERENCES)
    is_test = np.tile(np.arange(IMAGES_PER_CLASS) < TEST_IMAGES_PER_CLASS, 100)
    return ImageSet(
        features=np.hstack(scans.data[rows]).astype(np.float32),
        labels=labels,
        class_attributes=number_attributes(),
        class_names=tuple(f"{number:02}" for number in range(100)),
        trainval=np.flatnonzero(~is_unseen & ~is_test),
        test_seen=np.flatnonzero(~is_unseen & is_test),
        test_unseen=np.flatnonzero(is_unseen),
    )


def numbers_stamp() -> str:
    """Return a text that changes whenever the images would."""
    ours = (UNSEEN_DIFFERENCES, IMAGES_PER_CLASS, TEST_IMAGES_PER_CLASS, PAIRING_SEED)
    digest = hashlib.sha256(repr(ours).encode() + number_attributes().tobytes()).hexdigest()
    return f"scikit-learn {version('scikit-learn')}, {digest}"
