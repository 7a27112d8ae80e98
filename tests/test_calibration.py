"""The exact curve, area and constant of calibrated stacking agree with slow scans."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_boundary import FORBIDDEN, reachable
from worlds import small_search_data, small_settings, validate

from mianet.calibration import best_constant, harmonic, seen_unseen_curve
from mianet.evaluation import Scored, summarise
from mianet.protocol import Subset, Task
from mianet.validation import score_execution


def scored_world(world):
    """Return the scores of a world as the package has them."""
    seen_scores, seen_labels, unseen_scores, unseen_labels, unseen = world

    def part(labels):
        return Subset(torch.zeros(len(labels), 1), torch.tensor(labels), torch.arange(len(labels)))

    task = Task(
        torch.zeros(len(unseen), 1),
        torch.tensor(np.flatnonzero(~unseen)),
        torch.tensor(np.flatnonzero(unseen)),
        part(seen_labels),
        part(seen_labels),
        part(unseen_labels),
    )
    return Scored(torch.tensor(seen_scores), torch.tensor(unseen_scores), task)


def gaps_of(world):
    return scored_world(world).gaps


def at(gaps, constant):
    """Return tr, ts and H at a constant."""
    tr, ts = gaps.at(torch.tensor(constant, dtype=torch.float64))
    return float(tr), float(ts), float(harmonic(tr, ts))


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
    gaps = gaps_of(world)
    curve = seen_unseen_curve(gaps)
    edges = np.concatenate([[-2.0], curve.breakpoints, [2.0]])
    for constant in (edges[:-1] + edges[1:]) / 2:  # never at a breakpoint, where ties decide
        tr, ts = curve.at(np.array([constant]))
        expected = slow_accuracies(world, constant)
        np.testing.assert_allclose([tr[0], ts[0]], expected, atol=1e-12)
        np.testing.assert_allclose(at(gaps, constant)[:2], expected, atol=1e-12)


@given(seeds, steps)
def test_the_curve_falls_and_rises_from_one_end_to_the_other(seed, step):
    curve = seen_unseen_curve(gaps_of(some_scores(seed, step=step)))
    assert (np.diff(curve.breakpoints) > 0).all()
    assert (np.diff(curve.seen_accuracy) <= 1e-12).all()
    assert (np.diff(curve.unseen_accuracy) >= -1e-12).all()
    np.testing.assert_allclose(curve.seen_accuracy[-1], 0, atol=1e-12)
    assert curve.unseen_accuracy[0] == 0
    assert 0 <= curve.area <= 1


@given(seeds, steps)
def test_at_a_gap_the_curve_and_the_gaps_agree(seed, step):
    gaps = gaps_of(some_scores(seed, step=step))
    curve = seen_unseen_curve(gaps)
    for constant in curve.breakpoints:
        tr, ts = curve.at(np.array([constant]))
        assert at(gaps, constant)[:2] == pytest.approx((tr[0], ts[0]), abs=1e-12)


@example([14168], 0.25)
@given(st.lists(seeds, min_size=1, max_size=4, unique=True), steps)
@settings(max_examples=50)
def test_no_constant_of_a_fine_scan_beats_the_chosen_one(chosen_seeds, step):
    worlds = [some_scores(seed, step=step) for seed in chosen_seeds]
    constant, values = best_constant([gaps_of(world) for world in worlds])
    if float(values.mean()):  # else the constant is 0, where coarse scores tie
        there = [slow_h(world, float(constant)) for world in worlds]
        assert values.tolist() == pytest.approx(there, abs=1e-12)
    # Off the grid of coarse scores, so that no tie is met.
    scan = np.linspace(-1.0007, 1.0003, 401)
    best = max(np.mean([slow_h(world, each) for world in worlds]) for each in scan)
    assert float(values.mean()) >= best - 1e-12


def test_the_middle_of_the_widest_best_interval_is_taken():
    # One class each; the seen image changes sides at 0.4, the unseen one at 0.1: H is 1 between.
    world = (
        np.array([[0.9, 0.5]], np.float32),
        np.array([0]),
        np.array([[0.6, 0.5]], np.float32),
        np.array([1]),
        np.array([False, True]),
    )
    gaps = gaps_of(world)
    constant, values = best_constant([gaps])
    assert float(constant) == pytest.approx(0.25, abs=1e-6)
    assert (float(values), float(gaps.area)) == (1, 1)
    assert at(gaps, 0.0)[2] == 0


def test_where_nothing_helps_the_constant_is_0():
    world = (
        np.array([[0.1, 0.9, 0.5]], np.float32),
        np.array([0]),  # the other seen class always beats it
        np.array([[0.6, 0.2, 0.5]], np.float32),
        np.array([2]),
        np.array([False, False, True]),
    )
    gaps = gaps_of(world)
    constant, values = best_constant([gaps])
    assert (float(constant), float(values), float(gaps.area)) == (0, 0, 0)


def test_images_of_weight_0_change_nothing():
    worlds = [gaps_of(some_scores(seed, images=30)) for seed in range(3)]
    whole, kept = best_constant(worlds), best_constant([world.cpu() for world in worlds])
    assert all(len(world.cpu().seen) < len(world.seen) for world in worlds)
    assert float(whole[0]) == float(kept[0])
    assert whole[1].tolist() == kept[1].tolist()
    assert [float(w.area) for w in worlds] == pytest.approx([float(w.cpu().area) for w in worlds])


@given(seeds, steps)
@settings(max_examples=30)
def test_ausuc_is_that_of_trying_every_constant(seed, step):
    """Between any two gaps of any two classes nothing changes, so one constant is tried there."""
    world = some_scores(seed, step=step)
    seen_scores, _, unseen_scores, _, unseen = world
    differences = {
        float(row[s]) - float(row[u])
        for row in [*seen_scores, *unseen_scores]
        for s in np.flatnonzero(~unseen)
        for u in np.flatnonzero(unseen)
    }
    edges = [-9.0, *sorted(differences), 9.0]
    tried = [slow_accuracies(world, (a + b) / 2) for a, b in itertools.pairwise(edges)]
    area = sum(
        (ts_after - ts) * (tr + tr_after) / 2
        for (tr, ts), (tr_after, ts_after) in itertools.pairwise(tried)
    )
    gaps = gaps_of(world)
    assert float(gaps.area) == pytest.approx(area, abs=1e-9)
    assert seen_unseen_curve(gaps).area == pytest.approx(area, abs=1e-9)


@given(st.lists(seeds, min_size=1, max_size=4, unique=True))
@settings(max_examples=30)
def test_a_summary_has_the_figures_of_each_execution(chosen_seeds):
    worlds = [some_scores(seed) for seed in chosen_seeds]
    outcomes = [scored_world(world).outcome for world in worlds]
    summary = summarise(outcomes)
    for world, metrics in zip(worlds, summary.executions, strict=True):
        tr, ts = slow_accuracies(world, 0.0)
        assert (metrics.seen_accuracy, metrics.unseen_accuracy) == pytest.approx((tr, ts))
        assert metrics.harmonic_mean == pytest.approx(slow_h(world, 0.0))
        assert metrics.zsl_accuracy == pytest.approx(slow_accuracies(world, 9.0)[1])
        calibrated = slow_h(world, summary.calibration)
        assert metrics.calibrated_harmonic_mean == pytest.approx(calibrated)
    again = summarise(outcomes, summary.calibration)
    assert again.mean.calibrated_harmonic_mean == pytest.approx(
        summary.mean.calibrated_harmonic_mean
    )


def test_fresh_draws_together_give_what_a_search_of_them_gives():
    data, hyperparameters = small_search_data(), small_settings(latent_activation="linear")
    *_, last = validate(data, hyperparameters, epochs=4, executions=3, seed=7)
    outcomes = [
        score_execution(data, hyperparameters, epochs=4, execution=k, seed=7) for k in range(3)
    ]
    ours = summarise(outcomes)
    assert ours.calibration == pytest.approx(last.calibration, abs=1e-6)
    for one, other in zip(ours.executions, last.executions, strict=True):
        assert list(one.as_dict().values()) == pytest.approx(list(other.as_dict().values()))


def test_the_constant_cannot_be_chosen_on_test_parts():
    reached = reachable(["mianet.validation"])
    assert "mianet.calibration" in reached
    assert not FORBIDDEN & reached
