"""What the trials of a study tell: edges of the space, divergence, more trials, curves."""

import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from test_selection import a_trial

from tuning.analysis.insights import (
    bands,
    doubling_sentence,
    edge_sentences,
    edges,
    gain_of_doubling,
    infeasible_sentence,
    sentences,
)

RATE = FloatDistribution(1e-5, 1e-1, log=True)


def tried(values, scores, status="finished", name="learning_rate"):
    return [
        a_trial(number=n, status=status, score=score, hyperparameters={name: str(value)})
        for n, (value, score) in enumerate(zip(values, scores, strict=True))
    ]


@given(st.lists(st.floats(0, 1), min_size=8, max_size=10))
def test_the_best_of_half_is_the_mean_over_all_halves(scores):
    halves = itertools.combinations(scores, len(scores) // 2)
    of_half = statistics.fmean(max(half) for half in halves)
    assert gain_of_doubling(scores) == pytest.approx(max(scores) - of_half, abs=1e-9)


def test_more_trials_help_where_they_gained_more_than_the_noise():
    flat = [0.1] * 7
    spread = tried([1.0] * 8, [*flat, 0.5])
    assert gain_of_doubling([*flat, 0.5]) == pytest.approx(0.2)
    for noise, worth in ((0.05, True), (0.5, False)):
        draws = {0: 0.5 - noise, 1: 0.5 + noise}
        best = a_trial(number=7, score=0.5, per_execution=draws)
        words = doubling_sentence([*spread[:7], best])
        assert words.startswith("8 trials gained 20.00 points over half as many")
        assert f"the standard error of a score is {100 * noise:.2f}" in words
        assert ("more trials would likely help" in words) is worth
    assert doubling_sentence(spread[:7]) == ""
    assert doubling_sentence([*spread[:7], a_trial(status="failed", score=math.nan)]) == ""


@pytest.mark.parametrize(
    ("value", "side", "wider"),
    [(9e-2, "upper", (1e-5, 1.0)), (1e-5, "lower", (1e-6, 1e-1)), (1e-3, None, None)],
)
def test_a_value_near_the_edge_is_found_on_its_own_scale(value, side, wider):
    (trial,) = tried([value], [0.5])
    space = {"learning_rate": RATE}
    found = edges(trial, space)
    assert [end for end, *_ in found.values()] == ([side] if side else [])
    for (_, *bounds), words in zip(found.values(), edge_sentences(trial, space), strict=True):
        assert bounds == pytest.approx(wider)
        assert f"--range learning_rate={wider[0]:.3g}:{wider[1]:.3g}" in words


def test_edges_are_of_linear_whole_and_listed_hyperparameters_too():
    space = {
        "batch_images": IntDistribution(32, 1024, log=True),
        "dropout": FloatDistribution(0.0, 0.5),
        "activation": CategoricalDistribution(["relu", "none"]),
    }
    trial = a_trial(
        hyperparameters={"batch_images": "1024", "dropout": "0.03", "activation": "relu"}
    )
    assert edges(trial, space) == {"batch_images": ("upper", 32, 2436)}
    low = a_trial(hyperparameters={"batch_images": "100", "dropout": "0.02", "activation": "none"})
    assert edges(low, space) == {"dropout": ("lower", 0, 0.5)}


def test_many_diverged_trials_are_told_with_their_cause():
    good = tried([1e-4, 2e-4, 3e-4, 1e-3], [0.1, 0.2, 0.3, 0.4])
    bad = tried([2e-2, 3e-2], [math.nan] * 2, status="infeasible")
    space = {"learning_rate": RATE}
    words = infeasible_sentence([*good, *bad], space)
    assert words.startswith("2 of 6 trials diverged, mostly where learning_rate is high;")
    assert infeasible_sentence(good, space) == ""
    assert infeasible_sentence([*good * 5, bad[0]], space) == "", "one of twenty is no share"
    anywhere = tried([1e-5, 2e-2], [math.nan] * 2, status="infeasible")
    assert infeasible_sentence([*good, *anywhere], space) == "2 of 6 trials diverged"
    assert infeasible_sentence(bad, space) == "2 of 2 trials diverged"


@given(st.lists(st.tuples(st.floats(1e-5, 1e-1), st.floats(0, 1)), max_size=30))
def test_every_trial_is_in_one_band_that_holds_its_value(pairs):
    trials = tried([v for v, _ in pairs], [s for _, s in pairs])
    found = bands(trials, "learning_rate", RATE)
    assert sorted(s for band in found for s in band.scores) == sorted(s for _, s in pairs)
    assert [band.low for band in found[1:]] == [band.high for band in found[:-1]]
    assert (found[0].low, found[-1].high) == (pytest.approx(1e-5), pytest.approx(1e-1))
    for band in found:
        slack = 1e-9 * band.high
        inside = [s for v, s in pairs if band.low - slack <= v <= band.high + slack]
        assert set(band.scores) <= set(inside)
        assert list(band.scores) == sorted(band.scores, reverse=True)


def test_sentences_are_those_that_apply():
    assert sentences([], {"learning_rate": RATE}) == []
    good = tried([1e-3] * 7 + [9.9e-2], [0.1] * 7 + [0.5])
    bad = tried([2e-2, 3e-2], [math.nan] * 2, status="infeasible")
    more, edge, diverged = sentences([*good, *bad], {"learning_rate": RATE})
    assert more.startswith("8 trials gained 20.00 points over half as many")
    assert edge.startswith("learning_rate of trial 7, 0.099, is at the upper end")
    assert diverged.startswith("2 of 10 trials diverged, mostly where learning_rate is high")
    inside = sentences([*good, *bad], {"learning_rate": RATE}, good[0])
    assert inside == [more, diverged], "the selected trial lies at no edge"
