"""What a final training keeps of its test is read back as it was, whatever classes are called."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_calibration import gaps_of, some_scores

from mianet.calibration import seen_unseen_curve
from mianet.errors import InputError
from tuning.spec.final_files import confusion_text, curves_text, read_confusion, read_curves

NAMES = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)


@given(st.lists(NAMES, min_size=1, max_size=6, unique=True), st.integers(0, 10**6))
def test_a_confusion_is_read_back_with_seen_classes_first(names, seed):
    random = np.random.default_rng(seed)
    counts = random.integers(0, 3, (len(names), len(names)))
    unseen = random.random(len(names)) < 0.4
    read = read_confusion(confusion_text(counts, names, unseen.tolist()))
    order = [*np.flatnonzero(~unseen), *np.flatnonzero(unseen)]
    assert read.names == tuple(names[c] for c in order)
    assert read.unseen == tuple(bool(unseen[c]) for c in order)
    assert read.counts.tolist() == counts[np.ix_(order, order)].tolist()


def test_shares_are_of_a_classs_own_images():
    read = read_confusion(confusion_text(np.array([[3, 1], [0, 0]]), ["a", "b"], [False, True]))
    assert read.shares.tolist() == [[0.75, 0.25], [0.0, 0.0]]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=3, unique=True))
@settings(max_examples=20)
def test_curves_are_read_back_with_their_area(seeds):
    curves = {k: seen_unseen_curve(gaps_of(some_scores(seed))) for k, seed in enumerate(seeds)}
    read = read_curves(curves_text(curves))
    assert list(read) == list(curves)
    for number, curve in curves.items():
        assert read[number].area == pytest.approx(curve.area, abs=1e-7)
        np.testing.assert_allclose(read[number].breakpoints, curve.breakpoints, rtol=1e-8)
        there = np.array([-math.inf, 0.123, math.inf])
        np.testing.assert_allclose(read[number].at(there), curve.at(there), atol=1e-8)


GOOD = confusion_text(np.array([[3]]), ["a"], [False])


@pytest.mark.parametrize(
    "text",
    [
        *("", "\0", "a,b\n1,2\n", GOOD[:-4], GOOD.replace(",3", ",x"), GOOD.replace(",3", ",3,9")),
        *(GOOD + "b,0\n", GOOD + "a,0,b,0,3\n", GOOD + "a,0,a,0,3,9\n", GOOD + '"a'),
    ],
)
def test_a_damaged_file_is_one_clear_error(text):
    with pytest.raises(InputError, match=r"confusion\.csv must be"):
        read_confusion(text)
    with pytest.raises(InputError, match=r"seen_unseen\.csv must be"):
        read_curves(text)
