"""One training with everything that the paper measures."""

import pytest
import torch

from mianet.config import Hyperparameters
from mianet.data.search_data import load_search_data
from mianet.data.test_parts import load_test_parts
from mianet.errors import DivergedError
from mianet.final_training import final_task, train_final
from mianet.inference.prediction import class_scores
from mianet.inference.retrieval import mean_average_precision
from mianet.measurement import measure

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
    return load_search_data("digits"), load_test_parts("digits")


@pytest.fixture(scope="module")
def measured(world):
    return measure(*world, SETTINGS, epochs=3, seed=4, keep_model=True)


def test_it_trains_and_scores_as_the_final_training_does(world, measured):
    final = train_final(*world, SETTINGS, epochs=3, seed=4)
    assert measured.curve[-1] == final.metrics
    assert len(measured.curve) == 3
    assert measured.steps == -(-1152 // SETTINGS.batch_images)


def test_its_figures_agree_with_the_model_that_it_keeps(world, measured):
    data, test = world
    task = final_task(data, test, torch.device("cpu"))
    model = measured.classifier
    unseen = task.heldout_unseen
    scores = class_scores(model.model, model.scaler, unseen.features, task.class_attributes)
    expected = mean_average_precision(scores, unseen.labels, task.unseen_classes)
    assert measured.figures["retrieval_map"] == expected
    assert sum(measured.class_accuracy) / 2 == pytest.approx(measured.figures["zsl_accuracy"])


def test_the_model_is_left_behind_unless_it_is_asked_for(world, measured):
    without = measure(*world, SETTINGS, epochs=3, seed=4)
    assert without.classifier is None
    assert without.figures == measured.figures


def test_a_diverged_training_says_so(world):
    with pytest.raises(DivergedError):
        measure(*world, SETTINGS.replace(learning_rate=1e30), epochs=2, seed=0)
