"""Paired comparisons: what the draws share cancels, and the interval is Student's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tuning.analysis.comparison import Spread, paired_difference

VALUES = st.lists(st.floats(0, 1), min_size=3, max_size=12)


@given(VALUES, VALUES, st.lists(st.floats(-5, 5), min_size=12, max_size=12))
def test_what_both_share_on_a_draw_cancels(first, second, difficulty):
    n = min(len(first), len(second))
    plain = paired_difference(dict(enumerate(first[:n])), dict(enumerate(second[:n])))
    shifted = paired_difference(
        {k: first[k] + difficulty[k] for k in range(n)},
        {k: second[k] + difficulty[k] for k in range(n)},
    )
    assert shifted.mean == pytest.approx(plain.mean, abs=1e-9)
    assert shifted.low == pytest.approx(plain.low, abs=1e-6)


def test_the_interval_is_that_of_the_paired_t_test():
    random = np.random.default_rng(0)
    first, second = random.normal(0.1, 0.03, 10), random.normal(0.08, 0.03, 10)
    got = paired_difference(dict(enumerate(first)), dict(enumerate(second)))
    wanted = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (got.low, got.high) == pytest.approx(tuple(wanted))
    assert bool(got.sign) == (stats.ttest_rel(first, second).pvalue < 0.05)


def test_only_shared_draws_count_and_one_of_them_tells_nothing_apart():
    got = paired_difference({0: 0.2, 1: 0.9}, {0: 0.1, 2: 0.9})
    assert (got.mean, got.draws) == (pytest.approx(0.1), 1)
    assert math.isnan(got.standard_error)
    assert not got.sign
    with pytest.raises(ValueError, match="share"):
        paired_difference({0: 0.2}, {1: 0.2})


def test_points_and_signs_are_told_from_the_interval():
    first, second = {0: 0.030, 1: 0.031, 2: 0.032}, dict.fromkeys(range(3), 0.0)
    higher, lower = paired_difference(first, second), paired_difference(second, first)
    assert (higher.sign, lower.sign) == (1, -1)
    assert higher.in_points == "+3.1 [2.9, 3.3]"
    assert paired_difference({0: 0.1, 1: 0.0}, {0: 0.0, 1: 0.1}).sign == 0
    single = paired_difference({0: 0.5104}, {0: 0.0})
    assert (single.in_points, single.sign) == ("+51.0", 0)


def test_a_spread_has_the_sample_deviation_and_none_from_one_value():
    values = [51.0, 53.5, 49.0, 52.2]
    spread = Spread.of(values)
    assert (spread.mean, spread.sd, spread.count) == (
        pytest.approx(np.mean(values)),
        pytest.approx(np.std(values, ddof=1)),
        4,
    )
    assert str(spread) == "51.4 ± 1.9"
    assert str(Spread.of([51.04])) == "51.0"
