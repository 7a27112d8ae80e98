"""The exact curve and constant of calibrated stacking agree with slow scans."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_boundary import FORBIDDEN, reachable
from worlds import small_search_data, small_settings

from mianet.calibration import (
    at_constant,
    choose_constant,
    seen_unseen_curve,
    validation_curve,
)
from mianet.validation import validate


def some_scores(seed, *, classes=5, unseen=2, images=12, step=None):
    """Scores of seen and of unseen images; coarse ones, with a step, have many ties."""
    random = np.random.default_rng(seed)
    is_unseen = np.zeros(classes, dtype=bool)
    is_unseen[random.permutation(classes)[:unseen]] = True
    scores = random.random((2 * images, classes), dtype=np.float32)
    if step:
        scores = np.round(scores / step).astype(np.float32) * np.float32(step)
    seen_labels = random.choice(np.flatnonzero(~is_unseen), images)
    unseen_labels = random.choice(np.flatnonzero(is_unseen), images)
    return scores[:images], seen_labels, scores[images:], unseen_labels, is_unseen


def slow_accuracies(world, constant):
    """Subtract, take the best of all classes, count by class."""
    seen_scores, seen_labels, unseen_scores, unseen_labels, unseen = world

    def per_class(scores, labels):
        calibrated = scores.astype(np.float64) - constant * ~unseen
        predicted = calibrated.argmax(axis=1)
        return np.mean([np.mean(predicted[labels == c] == c) for c in set(labels.tolist())])

    return per_class(seen_scores, seen_labels), per_class(unseen_scores, unseen_labels)


def slow_h(world, constant):
    tr, ts = slow_accuracies(world, constant)
    return 2 * tr * ts / (tr + ts) if tr + ts else 0.0


seeds = st.integers(0, 10**6)
steps = st.sampled_from([None, 0.25])


@given(seeds, steps)
def test_the_curve_is_that_of_subtracting_and_counting(seed, step):
    world = some_scores(seed, step=step)
    curve = seen_unseen_curve(*world)
    edges = np.concatenate([[-2.0], curve.breakpoints, [2.0]])
    for constant in (edges[:-1] + edges[1:]) / 2:  # never at a breakpoint, where ties decide
        tr, ts = curve.at(np.array([constant]))
        np.testing.assert_allclose([tr[0], ts[0]], slow_accuracies(world, constant), atol=1e-12)


@given(seeds, steps)
def test_the_curve_falls_and_rises_from_one_end_to_the_other(seed, step):
    world = some_scores(seed, step=step)
    curve = seen_unseen_curve(*world)
    assert (np.diff(curve.breakpoints) > 0).all()
    assert (np.diff(curve.seen_accuracy) <= 1e-12).all()
    assert (np.diff(curve.unseen_accuracy) >= -1e-12).all()
    np.testing.assert_allclose(curve.seen_accuracy[-1], 0, atol=1e-12)
    assert curve.unseen_accuracy[0] == 0
    assert 0 <= curve.area <= 1


@given(st.lists(seeds, min_size=1, max_size=4, unique=True), steps)
@settings(max_examples=50)
def test_no_constant_of_a_fine_scan_beats_the_chosen_one(chosen_seeds, step):
    worlds = [some_scores(seed, step=step) for seed in chosen_seeds]
    chosen = choose_constant([seen_unseen_curve(*world) for world in worlds])
    there = np.mean([slow_h(world, chosen.constant) for world in worlds])
    assert there == pytest.approx(chosen.harmonic_mean, abs=1e-12)
    # Off the grid of coarse scores, so that no tie is met.
    scan = np.linspace(-1.0007, 1.0003, 401)
    best = max(np.mean([slow_h(world, constant) for world in worlds]) for constant in scan)
    assert chosen.harmonic_mean >= best - 1e-12


def test_the_middle_of_the_widest_best_interval_is_taken():
    # One class each; the seen image changes sides at 0.4, the unseen one at 0.1: H is 1 between.
    world = (
        np.array([[0.9, 0.5]], np.float32),
        np.array([0]),
        np.array([[0.6, 0.5]], np.float32),
        np.array([1]),
        np.array([False, True]),
    )
    curve = seen_unseen_curve(*world)
    chosen = choose_constant([curve])
    assert chosen.constant == pytest.approx(0.25, abs=1e-6)
    assert (chosen.harmonic_mean, chosen.area) == (1, 1)
    assert at_constant([curve], 0.0).harmonic_mean == 0


def test_where_nothing_helps_the_constant_is_0():
    world = (
        np.array([[0.1, 0.9, 0.5]], np.float32),
        np.array([0]),  # the other seen class always beats it
        np.array([[0.6, 0.2, 0.5]], np.float32),
        np.array([2]),
        np.array([False, False, True]),
    )
    chosen = choose_constant([seen_unseen_curve(*world)])
    assert (chosen.constant, chosen.harmonic_mean, chosen.area) == (0, 0, 0)


@given(seeds)
@settings(max_examples=30)
def test_the_area_is_that_of_a_fine_sum(seed):
    world = some_scores(seed)
    curve = seen_unseen_curve(*world)
    scan = np.linspace(-1, 1, 4001)
    tr, ts = curve.at(scan)
    fine = np.sum(np.diff(ts) * (tr[:-1] + tr[1:]) / 2)
    # A step of the scan may hold several breakpoints; each moves the sum by a small rectangle.
    assert curve.area == pytest.approx(fine, abs=0.02)


@given(seeds, steps)
@settings(max_examples=30)
def test_ausuc_is_that_of_trying_every_constant(seed, step):
    """Between any two gaps of any two classes nothing changes, so one constant is tried there."""
    world = some_scores(seed, step=step)
    seen_scores, _, unseen_scores, _, unseen = world
    gaps = {
        float(row[s]) - float(row[u])
        for row in [*seen_scores, *unseen_scores]
        for s in np.flatnonzero(~unseen)
        for u in np.flatnonzero(unseen)
    }
    edges = [-9.0, *sorted(gaps), 9.0]
    tried = [slow_accuracies(world, (a + b) / 2) for a, b in itertools.pairwise(edges)]
    area = sum(
        (ts_after - ts) * (tr + tr_after) / 2
        for (tr, ts), (tr_after, ts_after) in itertools.pairwise(tried)
    )
    assert seen_unseen_curve(*world).area == pytest.approx(area, abs=1e-9)


def test_a_validation_execution_is_the_one_of_the_search():
    """Without a constant the curve gives the figures that the search recorded."""
    data, hyperparameters = small_search_data(), small_settings(latent_activation="linear")
    *_, last = validate(data, hyperparameters, epochs=4, executions=3, seed=7)
    curves = [
        validation_curve(data, hyperparameters, epochs=4, execution=k, seed=7) for k in range(3)
    ]
    for curve, recorded in zip(curves, last.executions, strict=True):
        plain = at_constant([curve], 0.0)
        assert plain.harmonic_mean == pytest.approx(recorded.harmonic_mean, abs=1e-6)
        assert plain.unseen_accuracy == pytest.approx(recorded.unseen_accuracy, abs=1e-6)
        assert plain.seen_accuracy == pytest.approx(recorded.seen_accuracy, abs=1e-6)
        assert curve.unseen_accuracy[-1] == pytest.approx(recorded.zsl_accuracy, abs=1e-6)
    chosen = choose_constant(curves)
    assert chosen.harmonic_mean >= last.mean.harmonic_mean - 1e-9


def test_the_constant_cannot_be_chosen_on_test_parts():
    reached = reachable(["mianet.calibration"])
    assert "mianet.training" in reached
    assert not FORBIDDEN & reached
