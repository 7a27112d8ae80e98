"""Importances: what matters comes first, on whichever scale it was drawn."""

import math
import statistics
import time

import numpy as np
import pytest

from tuning.analysis.importances import MIN_TRIALS, REPEATS, importances


def drawn(count, seed=0):
    """Trials whose score hangs on the logarithm of ``much``, a little on ``choice``."""
    random = np.random.default_rng(seed)
    points = [
        {
            "much": float(10 ** random.uniform(-5, 4)),
            "nothing": float(10 ** random.uniform(-5, 4)),
            "choice": str(random.choice(["relu", "linear"])),
            "same": 1.0,
        }
        for _ in range(count)
    ]
    scores = [1 - abs(math.log10(p["much"])) / 5 + 0.05 * (p["choice"] == "relu") for p in points]
    return points, scores


def test_what_matters_comes_first_and_what_never_varied_last():
    shares = importances(*drawn(80), logarithmic=frozenset({"much", "nothing"}))
    assert next(iter(shares)) == "much"
    assert statistics.fmean(shares["much"]) > 0.8
    assert statistics.fmean(shares["nothing"]) < 0.1
    assert shares["same"] == [0.0] * REPEATS
    assert sum(values[0] for values in shares.values()) == pytest.approx(1)


def test_it_is_the_logarithm_that_counts():
    """What matters below 1 alone matters in five decades of nine; linearly in a ten-thousandth."""
    points, _ = drawn(80)
    scores = [min(0.0, math.log10(p["much"])) / 5 + 0.05 * (p["choice"] == "relu") for p in points]
    linear = importances(points, scores)
    logarithmic = importances(points, scores, logarithmic=frozenset({"much", "nothing"}))
    assert next(iter(logarithmic)) == "much"
    assert statistics.fmean(logarithmic["much"]) > statistics.fmean(linear["much"]) + 0.2


def test_it_is_repeatable():
    assert importances(*drawn(40)) == importances(*drawn(40))


@pytest.mark.parametrize("count", [0, 1, MIN_TRIALS - 1])
def test_of_few_trials_nothing_is_said(count):
    assert importances(*drawn(count)) == {}


def test_where_nothing_differs_nothing_is_said():
    points, _ = drawn(30)
    assert importances(points, [0.5] * 30) == {}
    assert importances([{"same": 1.0}] * 30, list(np.arange(30.0))) == {}


def test_hundreds_of_trials_take_seconds():
    started = time.process_time()
    assert importances(*drawn(500))
    assert time.process_time() - started < 20
