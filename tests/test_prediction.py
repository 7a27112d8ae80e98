"""A saved classifier gives the scores of the one that was saved, and loads without pickle."""

import numpy as np
import pytest
import torch
from worlds import small_settings, small_task

from mianet.errors import InputError
from mianet.prediction import Classifier
from mianet.training import train


@pytest.fixture(scope="module")
def classifier():
    task = small_task(images=60)
    *_, epoch = train(task, small_settings(feature_scaling="standard"), epochs=2, seed=0)
    unseen = np.isin(np.arange(6), task.unseen_classes.numpy())
    names = tuple("abcdef")
    return Classifier(epoch.model, epoch.scaler, task.class_attributes, names, unseen)


def test_saved_and_loaded_scores_agree(classifier, tmp_path):
    features = np.random.default_rng(0).random((5, 7), dtype=np.float32)
    classifier.save(tmp_path / "model.pt")
    loaded = Classifier.load(tmp_path / "model.pt")
    assert np.array_equal(loaded.predict(features), classifier.predict(features))
    assert loaded.class_names == classifier.class_names
    assert np.array_equal(loaded.unseen, classifier.unseen)


def test_the_file_holds_plain_values_only(classifier, tmp_path):
    classifier.save(tmp_path / "model.pt")
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    assert saved["class_names"] == list("abcdef")


def test_features_of_another_width_are_refused(classifier):
    with pytest.raises(InputError, match=r"shape \(images, 7\), but got \(2, 8\)"):
        classifier.predict(np.zeros((2, 8), dtype=np.float32))
