"""The embedded data set ``numbers``: two-digit numbers 00 … 99, composed of scanned digits.

Each image is two of scikit-learn's 1,797 scans (``load_digits``, 8×8 pixels, the test part of UCI's
"Optical Recognition of Handwritten Digits"): the 64 grey values (0 to 16) of the first, then those
of the second. The handwriting is real, the pairing is ours. No scan is used twice, so each of the
100 classes has eight images: the rarest digit has 174 scans, and each digit fills 20 places.

A number is unseen where its second digit follows its first by 3 or 7 (modulo 10): 20 classes, in
which every digit stands twice in either place, while the 80 seen ones show every digit eight times
in either place. The rule is a pattern of the class names, and was fixed before any training.

The attributes of a class are those of its ideal digits (``digits.digit_attributes`` for either
place): seven-segment code and properties of the drawn figure, known without looking at a scan.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version

import numpy as np
from jaxtyping import Float32

from mianet.data.digits import digit_attributes
from mianet.data.images import EmbeddedSource, ImageSet

UNSEEN_DIFFERENCES = (3, 7)
IMAGES_PER_CLASS = 8
TEST_IMAGES_PER_CLASS = 2
PAIRING_SEED = 20211016


def number_attributes() -> Float32[np.ndarray, "100 attributes"]:
    """Return the attributes of 00 … 99, those of the first digit and of the second, of length 1."""
    digits = digit_attributes()
    tens, units = np.divmod(np.arange(100), 10)
    return np.concatenate([digits[tens], digits[units]], axis=1) / np.float32(np.sqrt(2))


def read_numbers() -> ImageSet:
    """Return the numbers with their attributes and their split.

    Two of the eight images of a seen class are ``test_seen``; all of an unseen class are
    ``test_unseen``.
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


def _stamp() -> str:
    ours = (UNSEEN_DIFFERENCES, IMAGES_PER_CLASS, TEST_IMAGES_PER_CLASS, PAIRING_SEED)
    digest = hashlib.sha256(repr(ours).encode() + number_attributes().tobytes()).hexdigest()
    return f"scikit-learn {version('scikit-learn')}, {digest}"


NUMBERS = EmbeddedSource(stamp=_stamp, read=read_numbers)
