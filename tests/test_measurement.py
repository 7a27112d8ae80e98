"""One training with everything that the paper measures."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from mianet.config import VARIANTS, Hyperparameters
from mianet.data.search_data import load_search_data
from mianet.data.test_parts import load_test_parts
from mianet.errors import DivergedError
from mianet.evaluation import mean_average_precision
from mianet.final_training import draw_new_classes, final_task, measure, train_final
from mianet.inference.prediction import class_scores

SETTINGS = Hyperparameters(hidden_dim=16, learning_rate=3e-3, alpha=1.0)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Trainings this small only wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world():
    return load_search_data("numbers"), load_test_parts("numbers")


@pytest.fixture(scope="module")
def measured(world):
    return measure(*world, SETTINGS, epochs=3, seed=4, keep_model=True)


def test_it_trains_and_scores_as_the_final_training_does(world, measured):
    final = train_final(*world, SETTINGS, epochs=3, seed=4)
    assert measured.curve[-1] == final.metrics
    assert len(measured.curve) == 3
    assert measured.steps == -(-480 // SETTINGS.batch_images)


def test_its_figures_agree_with_the_model_that_it_keeps(world, measured):
    data, test = world
    task = final_task(data, test, torch.device("cpu"))
    model = measured.classifier
    unseen = task.heldout_unseen
    scores = class_scores(model.model, model.scaler, unseen.features, task.class_attributes)
    expected = mean_average_precision(scores, unseen.labels, task.unseen_classes)
    assert measured.figures["retrieval_map"] == expected
    assert sum(measured.class_accuracy.values()) / len(task.unseen_classes) == pytest.approx(
        measured.figures["zsl_accuracy"]
    )


def test_the_model_is_left_behind_unless_it_is_asked_for(world, measured):
    without = measure(*world, SETTINGS, epochs=3, seed=4)
    assert without.classifier is None
    assert without.figures == measured.figures


def test_a_diverged_training_says_so(world):
    with pytest.raises(DivergedError):
        measure(*world, SETTINGS.replace(learning_rate=1e30), epochs=2, seed=0)


def test_withholding_all_unseen_classes_is_the_papers_variant(world):
    all_new = measure(*world, SETTINGS, epochs=2, seed=0, new_classes=20)
    assert set(all_new.new_classes) == set(world[1].unseen_classes.tolist())
    withheld = SETTINGS.replace(**VARIANTS["withheld_attributes"])
    assert all_new.figures == measure(*world, withheld, epochs=2, seed=0).figures


def test_a_new_class_takes_no_part_in_training_and_is_scored_all_the_same(world):
    data, test = world
    one = measure(data, test, SETTINGS, epochs=2, seed=0, new_classes=1, keep_model=True)
    (new,) = one.new_classes
    attributes = test.class_attributes.copy()
    attributes[new] = attributes[new, ::-1]
    changed = dataclasses.replace(test, class_attributes=attributes)
    other = measure(data, changed, SETTINGS, epochs=2, seed=0, new_classes=1, keep_model=True)
    for a, b in zip(*(m.classifier.model.parameters() for m in (one, other)), strict=True):
        assert torch.equal(a, b)
    assert set(one.class_accuracy) == set(test.unseen_classes.tolist())
    assert other.figures != one.figures


def test_a_seeds_larger_draws_of_new_classes_contain_its_smaller_ones():
    unseen = np.arange(10, 60, 5)
    draws = [set(draw_new_classes(unseen, count, 3)) for count in range(11)]
    assert [len(draw) for draw in draws] == list(range(11))
    assert all(small < large for small, large in itertools.pairwise(draws))
    assert draws[-1] == set(unseen.tolist())
    assert draw_new_classes(unseen, 5, 4) != draw_new_classes(unseen, 5, 3)
