"""A classifier says the same after saving, loads nothing but data, and takes new classes."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from classifiers import ATTRIBUTES, NAMES, WIDTH, small_classifier, some_features, unit_vectors
from hypothesis import given
from hypothesis import strategies as st
from worlds import small_settings, small_task

from mianet.errors import InputError
from mianet.inference.prediction import Classifier
from mianet.training import train


@pytest.fixture(scope="module")
def trained():
    task = small_task(images=60)
    *_, epoch = train(task, small_settings(feature_scaling="standard"), epochs=2, seed=0)
    unseen = np.isin(np.arange(6), task.unseen_classes.numpy())
    return Classifier(epoch.model, epoch.scaler, task.class_attributes, NAMES, unseen, 0.25)


def cosines_one_by_one(classifier, features, vectors):
    """Section 3.5 in words: normalise both latents, multiply."""
    with torch.no_grad():
        scores = []
        for feature in torch.tensor(features):
            image = classifier.model.embed_features(classifier.scaler(feature[None]))[0]
            row = []
            for vector in torch.tensor(vectors):
                latent = classifier.model.embed_attributes(vector[None])[0]
                row.append((image @ latent / image.norm() / latent.norm()).item())
            scores.append(row)
    return np.array(scores)


# Saving


def test_saved_and_loaded_agree_in_everything(trained, tmp_path):
    features = np.random.default_rng(0).random((5, 7), dtype=np.float32)
    trained.save(tmp_path / "model.pt")
    loaded = Classifier.load(tmp_path / "model.pt")
    assert np.array_equal(loaded.predict(features), trained.predict(features))
    assert loaded.class_names == trained.class_names
    assert np.array_equal(loaded.unseen, trained.unseen)
    assert loaded.calibration == 0.25
    assert (
        repr(loaded) == f"<Classifier of {len(NAMES)} classes, 2 of them unseen, from 7 features>"
    )


def test_the_file_holds_plain_values_and_tensors_of_the_cpu_only(trained, tmp_path):
    trained.save(tmp_path / "model.pt")
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    assert saved["class_names"] == list(NAMES)
    tensors = [*saved["model"].values(), *saved["scaler"].values()]
    tensors += [saved["class_attributes"], saved["unseen"]]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}


class Planted:
    """Pickles to a call of os.mkdir."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def plain_pickle(value, path):
    path.write_bytes(pickle.dumps(value))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [torch.save, plain_pickle])
def test_a_planted_pickle_is_refused_and_not_run(write, trained, tmp_path):
    trained.save(tmp_path / "good.pt")
    saved = torch.load(tmp_path / "good.pt", weights_only=True)
    write({**saved, "unseen": Planted(tmp_path / "run")}, tmp_path / "bad.pt")
    with pytest.raises(InputError, match="must be a classifier saved by this project") as error:
        Classifier.load(tmp_path / "bad.pt")
    assert "weights_only" not in str(error.value)
    assert not (tmp_path / "run").exists()
    if write is torch.save:  # it would have worked
        torch.load(tmp_path / "bad.pt", weights_only=False)
        assert (tmp_path / "run").exists()


@pytest.mark.parametrize("spoil", ["missing", "empty", "cut", "another"])
def test_a_file_that_is_none_is_refused(spoil, trained, tmp_path):
    path = tmp_path / "model.pt"
    trained.save(path)
    if spoil == "missing":
        path.unlink()
    elif spoil == "another":
        torch.save({"weights": torch.zeros(3)}, path)
    else:
        path.write_bytes(path.read_bytes()[: 0 if spoil == "empty" else 500])
    with pytest.raises(InputError, match=r"model\.pt must be a classifier"):
        Classifier.load(path)


def test_a_file_of_another_format_says_so(trained, tmp_path):
    trained.save(tmp_path / "model.pt")
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    torch.save({**saved, "format": 99}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="of format 2, but has 99"):
        Classifier.load(tmp_path / "model.pt")


def test_what_a_gpu_saved_loads_without_one(trained, tmp_path, monkeypatch):
    """Storages are marked as a GPU's, as they would be had nobody moved them."""
    trained.save(tmp_path / "model.pt")
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(saved, tmp_path / "gpu.pt")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "gpu.pt", weights_only=True)

    def asked(*_):
        raise AssertionError("CUDA was asked for")

    monkeypatch.setattr(torch.cuda, "_lazy_init", asked)
    features = np.ones((2, 7), dtype=np.float32)
    loaded = Classifier.load(tmp_path / "gpu.pt")
    assert np.array_equal(loaded.predict(features), trained.predict(features))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_classifier_on_a_gpu_is_saved_for_the_cpu(tmp_path):
    there = small_classifier()
    features, expected = some_features(), there.predict(some_features())
    there.model.cuda(), there.scaler.cuda()
    there.save(tmp_path / "model.pt")
    script = (
        "import sys, numpy as np; from pathlib import Path; "
        "from mianet.inference.prediction import Classifier; import torch; "
        "assert not torch.cuda.is_available(); features = np.load(sys.argv[2]); "
        "np.save(sys.argv[3], Classifier.load(Path(sys.argv[1])).predict(features))"
    )
    np.save(tmp_path / "features.npy", features)
    files = [str(tmp_path / name) for name in ("model.pt", "features.npy", "scores.npy")]
    subprocess.run(
        [sys.executable, "-c", script, *files],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        check=True,
        timeout=120,
    )
    np.testing.assert_allclose(np.load(files[2]), expected, atol=1e-6)


# Features


def test_scores_are_the_cosines_of_the_latents(trained):
    features = np.random.default_rng(0).random((5, 7), dtype=np.float32)
    expected = cosines_one_by_one(trained, features, trained.class_attributes.numpy())
    np.testing.assert_allclose(trained.predict(features), expected, atol=1e-5)


@pytest.mark.parametrize(
    "given_as",
    [
        lambda x: x.astype(np.float64),
        lambda x: pd.DataFrame(x, columns=[f"f{i}" for i in range(WIDTH)]),
        torch.tensor,
        lambda x: torch.tensor(x, dtype=torch.float64, requires_grad=True),
        np.asfortranarray,
        lambda x: np.broadcast_to(x, x.shape),  # read-only
    ],
)
def test_features_may_be_an_array_a_frame_or_a_tensor(given_as):
    classifier, features = small_classifier(), some_features()
    before = features.copy()
    assert np.array_equal(classifier.predict(given_as(features)), classifier.predict(features))
    assert np.array_equal(features, before)


def with_value(value):
    features = some_features().astype(np.float64)
    features[[3, 5], 2] = value
    return features


WRONG_FEATURES = [
    (np.zeros((2, 9)), r"shape \(images, 8\), but got \(2, 9\)"),
    (np.zeros(8), r"shape \(images, 8\), but got \(8,\)"),
    (np.zeros((0, 8)), "at least one image, but got none"),
    (np.full((2, 8), "1"), "real numbers, but got <U1"),
    (np.zeros((2, 8), dtype=complex), "real numbers, but got complex128"),
    (np.zeros((2, 8), dtype=bool), "real numbers, but got bool"),
    (np.full((2, 8), None), "real numbers, but got object"),
    (pd.DataFrame({"a": ["x"], **{f"{i}": [1.0] for i in range(7)}}), "real numbers, but got obj"),
    (with_value(np.nan), r"those of 2 images are not; the first is image 3 \(counting from 0\)"),
    (with_value(-np.inf), "those of 2 images are not"),
    (with_value(1e300), "finite in float32"),
]


@pytest.mark.parametrize(("features", "message"), WRONG_FEATURES)
def test_features_that_are_none_are_refused_in_one_line(features, message):
    with pytest.raises(InputError, match=message) as error:
        small_classifier().predict(features)
    assert len(str(error.value).splitlines()) == 1


# The best classes


@pytest.mark.parametrize("mode", ["gzsl", "zsl"])
@pytest.mark.parametrize("calibration", [None, 0.0, 0.3, -0.3])
def test_the_best_classes_are_those_of_a_plain_sort(mode, calibration):
    classifier, features = small_classifier(calibration=0.1), some_features()
    top = 2
    found = classifier.classify(features, mode=mode, top_k=top, calibration=calibration)
    constant = 0.1 if calibration is None else calibration
    for row, scores in enumerate(classifier.predict(features)):
        ranked = []
        for index, score in enumerate(scores):
            seen = not classifier.unseen[index]
            if not (seen and mode == "zsl"):
                ranked.append((-(score - constant * seen), index))
        ranked.sort()
        assert found.classes[row].tolist() == [index for _, index in ranked[:top]]
        np.testing.assert_allclose(found.scores[row], [-s for s, _ in ranked[:top]], atol=1e-6)


def test_of_equal_scores_the_first_class_is_taken():
    classifier = small_classifier()
    torch.nn.init.zeros_(classifier.model.visual_latent.weight)
    torch.nn.init.zeros_(classifier.model.visual_latent.bias)  # all cosines are 0
    found = classifier.classify(some_features(), top_k=3)
    assert (found.classes == [0, 1, 2]).all()


def test_a_large_constant_leaves_the_unseen_classes_only():
    classifier, features = small_classifier(), some_features()
    all_classes = classifier.classify(features, calibration=10.0)
    assert np.array_equal(all_classes.classes, classifier.classify(features, mode="zsl").classes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "all"}, "mode must be one of gzsl, zsl, but got 'all'"),
        ({"top_k": 0}, "top_k must be from 1 to 6, the number of gzsl classes, but got 0"),
        (
            {"top_k": 3, "mode": "zsl"},
            "top_k must be from 1 to 2, the number of zsl classes, but got 3",
        ),
        ({"calibration": float("nan")}, "calibration must be a finite number"),
    ],
)
def test_an_option_that_is_none_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        small_classifier().classify(some_features(), **options)


# New classes


def test_new_classes_are_scored_and_the_others_keep_their_scores():
    classifier, features, added = small_classifier(), some_features(), unit_vectors(2, seed=5)
    larger = classifier.add_classes(["g", "h"], added)
    assert larger.class_names == (*NAMES, "g", "h")
    assert larger.unseen.tolist() == [False] * 4 + [True] * 4
    assert len(classifier.class_names) == 6, "the given classifier stays as it is"
    scores = larger.predict(features)
    np.testing.assert_allclose(scores[:, :6], classifier.predict(features), atol=1e-6)
    np.testing.assert_allclose(
        scores[:, 6:], cosines_one_by_one(classifier, features, added), atol=1e-5
    )


def test_a_class_that_was_there_from_the_start_scores_as_one_that_is_added():
    whole, features = small_classifier(), some_features()
    part = small_classifier(
        class_attributes=whole.class_attributes[:5],
        class_names=NAMES[:5],
        unseen=whole.unseen[:5],
    )
    again = part.add_classes(["f"], whole.class_attributes[5:])
    np.testing.assert_allclose(again.predict(features), whole.predict(features), atol=1e-6)
    for mode in ("gzsl", "zsl"):
        assert np.array_equal(
            again.classify(features, mode=mode).classes, whole.classify(features, mode=mode).classes
        )


def test_new_classes_are_saved_too(tmp_path):
    larger = small_classifier().add_classes(["ĝ 漢"], unit_vectors(1, seed=5))
    larger.save(tmp_path / "model.pt")
    loaded = Classifier.load(tmp_path / "model.pt")
    assert loaded.class_names[-1] == "ĝ 漢"
    assert np.array_equal(loaded.predict(some_features()), larger.predict(some_features()))


@pytest.mark.parametrize(
    ("names", "attributes", "message"),
    [
        (["a"], unit_vectors(1), "'a' appears twice"),
        (["g", "g"], unit_vectors(2), "'g' appears twice"),
        ([], unit_vectors(0), "must have names"),
        ([" "], unit_vectors(1), "must have names"),
        (["g", "h"], unit_vectors(1), r"shape \(2, 4\), but got float32 of shape \(1, 4\)"),
        (["g"], unit_vectors(1, width=5), r"shape \(1, 4\), but got float32 of shape \(1, 5\)"),
        (["g"], unit_vectors(1)[0], r"shape \(1, 4\), but got float32 of shape \(4,\)"),
        (["g"], np.full((1, 4), "x"), r"must be numbers"),
        (["g", "h"], [[0.5] * 4, [0.5, np.nan, 0, 0]], "those of 'h' are not"),
        (["g"], [[0.5, np.inf, 0, 0]], "those of 'g' are not"),
        (["g"], unit_vectors(1) * 3, "that of 'g' has length 3; divide it by its length"),
        (["g"], np.zeros((1, 4)), "that of 'g' has length 0"),
    ],
)
def test_new_classes_that_are_none_are_refused(names, attributes, message):
    with pytest.raises(InputError, match=message):
        small_classifier().add_classes(names, np.asarray(attributes))


# Retrieval


@given(st.integers(1, 20), st.integers(0, 5))
def test_retrieval_ranks_images_by_their_score_of_the_class(top, index):
    classifier, features = small_classifier(), some_features()
    found = classifier.retrieve(features, NAMES[index], top_k=top)
    scores = classifier.predict(features)[:, index]
    expected = sorted(range(20), key=lambda image: -scores[image])[:top]
    assert found.images.tolist() == expected
    np.testing.assert_allclose(found.scores, scores[expected], atol=1e-6)


def test_retrieval_by_attributes_is_that_of_the_class_that_has_them():
    classifier, features = small_classifier(), some_features()
    by_name = classifier.retrieve(features, "c")
    by_vector = classifier.retrieve(features, classifier.class_attributes[2].numpy())
    assert np.array_equal(by_name.images, by_vector.images)
    assert len(by_name.images) == 20
    new = classifier.retrieve(features, unit_vectors(1, seed=9)[0], top_k=3)
    larger = classifier.add_classes(["new"], unit_vectors(1, seed=9))
    assert np.array_equal(new.images, larger.retrieve(features, "new", top_k=3).images)


@pytest.mark.parametrize(
    ("query", "top", "message"),
    [
        ("z", 3, "one of the model's 6 .a, ….*, but got 'z'"),
        ("a", 0, "top_k must be from 1 to 20, the number of images, but got 0"),
        ("a", 21, "top_k must be from 1 to 20, the number of images, but got 21"),
        (np.ones(ATTRIBUTES + 1), 3, r"shape \(1, 4\), but got float64 of shape \(1, 5\)"),
    ],
)
def test_a_query_that_is_none_is_refused(query, top, message):
    with pytest.raises(InputError, match=message):
        small_classifier().retrieve(some_features(), query, top_k=top)
