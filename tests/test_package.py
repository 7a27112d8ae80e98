"""Packages made of what people have, and what the check says about one."""

from __future__ import annotations

import re

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
from own_data import NAMES, attribute_table, scans, write_own_data
from tiny_package import tiny_variables, write_package

from mianet.data import build as building
from mianet.data.search_data import load_search_data
from mianet.data.test_parts import load_test_parts
from mianet.package import main

pytestmark = pytest.mark.usefixtures("forked_readers")
BUILD = "build new --features features.npy --labels labels.txt --attributes attributes.csv"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIANET_CACHE_DIR", str(tmp_path / "cache"))
    write_own_data(tmp_path)
    return tmp_path


def run(command, capsys):
    try:
        code = main(command.split())
    except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()


def refused(command, capsys):
    """Return the one line that a command is refused with; it leaves nothing behind."""
    code, out, err = run(command, capsys)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert line.isprintable()
    return line


def test_a_package_is_drawn_and_holds_what_it_was_made_of(here, capsys):
    assert run(BUILD, capsys)[0] == 0
    features, labels = scans()
    search, test = load_search_data("./new"), load_test_parts("./new")
    assert set(search.class_names) < set(test.class_names) == set(NAMES)
    assert len(test.unseen_classes) == 2
    table = dict(zip(NAMES, attribute_table(), strict=True))
    for name, vector in zip(test.class_names, test.class_attributes, strict=True):
        np.testing.assert_allclose(
            vector, table[name] / np.linalg.norm(table[name]), rtol=1e-5, atol=1e-7
        )
    loaded = np.concatenate([search.features, test.test_seen_features, test.test_unseen_features])
    assert sorted(map(bytes, loaded)) == sorted(map(bytes, features))
    for name in search.class_names:
        images = (labels == name).sum()
        tested = (test.test_seen_labels == test.class_names.index(name)).sum()
        assert tested == round(0.2 * images)
    by_row = {row.tobytes(): label for row, label in zip(features, labels, strict=True)}
    for row, label in zip(search.features[:50], search.labels[:50], strict=True):
        assert by_row[row.tobytes()] == search.class_names[label]


def test_other_code_of_the_field_can_read_it(here, capsys):
    assert run(BUILD, capsys)[0] == 0
    splits = scipy.io.loadmat("new/att_splits.mat")
    images = scipy.io.loadmat("new/res101.mat")
    assert images["features"].shape == (64, 1797)
    assert images["labels"].shape == (1797, 1)
    rows = {name: set(splits[f"{name}_loc"].ravel()) for name in ("train", "val", "trainval")}
    assert rows["train"] | rows["val"] == rows["trainval"]
    classes = [{int(images["labels"][int(k) - 1, 0]) for k in rows[n]} for n in ("train", "val")]
    assert not classes[0] & classes[1]
    assert splits["original_att"].max() == 2
    assert splits["allclasses_names"][0, 0].item() in NAMES


def as_npz(features, labels):
    np.savez("x.npz", features=features, labels=labels)


def as_h5(features, labels):
    with h5py.File("x.h5", "w") as file:
        file["features"] = features
        file["labels"] = [NAMES.index(label) for label in labels]


def as_mat(features, labels):
    numbers = [NAMES.index(label) for label in labels]
    scipy.io.savemat("x.mat", {"features": features.T, "labels": numbers})


def as_table(features, labels):
    table = pd.DataFrame(features, columns=[f"f{k}" for k in range(64)])
    table.insert(3, "class", labels)
    return table


WRITERS = {
    "npz": as_npz,
    "h5": as_h5,
    "mat": as_mat,
    "csv": lambda x, y: as_table(x, y).to_csv("x.csv", index=False),
    "parquet": lambda x, y: as_table(x, y).to_parquet("x.parquet"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_makes_the_same_package(here, capsys, kind):
    WRITERS[kind](*scans())
    assert run(BUILD, capsys)[0] == 0
    assert run(f"build other --features x.{kind} --attributes attributes.csv", capsys)[0] == 0
    for file in ("res101.mat", "att_splits.mat"):
        first, second = (scipy.io.loadmat(f"{folder}/{file}") for folder in ("new", "other"))
        for name in first.keys() - {"__header__"}:
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_lists_in_parquet_and_attributes_without_names(here, capsys):
    features, labels = scans()
    pd.DataFrame({"vector": list(features), "label": labels}).to_parquet("x.parquet")
    np.save("a.npy", attribute_table())
    (here / "names.txt").write_text("\n".join(NAMES))
    options = "--key vector --attributes a.npy --classes names.txt"
    assert run(f"build new --features x.parquet {options}", capsys)[0] == 0
    assert len(load_search_data("./new").labels) > 1000


def test_unseen_classes_and_whole_splits_can_be_given(here, capsys):
    (here / "unseen.txt").write_text("zero\nnine\n")
    assert run(f"{BUILD} --unseen unseen.txt --test-seen 0.5", capsys)[0] == 0
    test = load_test_parts("./new")
    assert {test.class_names[k] for k in test.unseen_classes} == {"zero", "nine"}
    labels = scans()[1]
    parts = np.where(np.isin(labels, ["zero", "nine"]), "test_unseen", "trainval")
    parts[::3] = np.where(parts[::3] == "trainval", "test_seen", parts[::3])
    parts[5] = "-"
    (here / "split.txt").write_text("\n".join(parts))
    command = BUILD.replace("new", "given")
    assert run(f"{command} --split split.txt", capsys)[0] == 0
    given = load_test_parts("./given")
    assert len(given.test_seen_labels) == (parts == "test_seen").sum()
    assert len(load_search_data("./given").labels) == (parts == "trainval").sum()


def test_a_seed_draws_the_same_again_and_another_one_differently(here, capsys):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(f"{BUILD.replace('new', name)} --seed {seed}", capsys)[0] == 0
    digests = [load_search_data(f"./{name}").features.tobytes() for name in "abc"]
    assert digests[0] == digests[1] != digests[2]


def test_classes_of_any_script_and_files_with_spaces(here, capsys):
    text = (here / "labels.txt").read_text().replace("seven", "пять 5, ñ")
    (here / "labels.txt").write_text(text, encoding="utf-8")
    table = (here / "attributes.csv").read_text().replace("seven", '"пять 5, ñ"')
    (here / "attributes.csv").write_text(table, encoding="utf-8")
    assert run(BUILD, capsys)[0] == 0
    assert "пять 5, ñ" in load_test_parts("./new").class_names


def test_more_numbers_than_an_old_file_holds_go_to_a_new_one(here, capsys, monkeypatch):
    monkeypatch.setattr(building, "LARGEST_V5", 1000)
    assert run(BUILD, capsys)[0] == 0
    assert h5py.is_hdf5("new/res101.mat")
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert run(BUILD.replace("new", "old"), capsys)[0] == 0
    old, new = load_search_data("./old"), load_search_data("./new")
    np.testing.assert_array_equal(old.features, new.features)


def test_very_many_classes_are_no_trouble(here, capsys):
    count = 10_000
    generator = np.random.default_rng(0)
    np.savez("x.npz", features=generator.random((2 * count, 2)), labels=np.arange(2 * count) // 2)
    np.save("a.npy", generator.random((count, 4)))
    assert run("build new --features x.npz --attributes a.npy", capsys)[0] == 0
    assert len(load_search_data("./new").class_names) == 8_000


def test_an_interrupted_build_leaves_nothing(here, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    before = sorted(here.rglob("*"))
    monkeypatch.setattr(building.scipy.io, "savemat", interrupted)
    code, out, err = run(BUILD, capsys)
    assert (code, out, err) == (130, "", "interrupted; nothing was written\n")
    assert sorted(here.rglob("*")) == before


def edit(file, old, new):
    def change(folder):
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return change


def nan_attribute(folder):
    edit("attributes.csv", "two,1", "two,nan")(folder)


def line(file, *lines):
    return lambda folder: (folder / file).write_text("\n".join(lines))


BAD_INPUT = {
    "a class without attributes": (
        edit("labels.txt", "three", "thre"),
        BUILD,
        "'thre' has none; did you mean 'three'",
    ),
    "a class twice": (edit("attributes.csv", "two,", "one,"), BUILD, "has 'one' 2 times"),
    "NaN among attributes": (nan_attribute, BUILD, "finite and not all zero.*'two'"),
    "text among attributes": (
        edit("attributes.csv", "two,1", "two,x"),
        BUILD,
        "equally many numbers",
    ),
    "a seen class of one image": (
        lambda folder: (folder / "labels.txt").write_text(
            "one\n" + "two\n" * 900 + "three\n" * 896
        ),
        f"{BUILD} --unseen 0.3",
        "'one' has only one|at least 3 seen classes",
    ),
    "fewer labels": (edit("labels.txt", "zero\n", ""), BUILD, "1,797 images .* there are 1,796"),
    "no labels": (None, BUILD.replace(" --labels labels.txt", ""), "give them with --labels"),
    "no such file": (None, BUILD.replace("labels.txt", "none.txt"), "none.txt must be readable"),
    "no features": (None, BUILD.replace("features.npy", "none.npy"), "there is none at none.npy"),
    "images instead of features": (
        line("photo.jpg", "x"),
        BUILD.replace("features.npy", "photo.jpg"),
        r"features file must end in .npy",
    ),
    "no numpy file": (line("features.npy", "text"), BUILD, "must be an intact .npy file"),
    "an unknown unseen class": (
        line("unseen.txt", "eigth"),
        f"{BUILD} --unseen unseen.txt",
        "'eigth' in unseen.txt has none; did you mean 'eight'",
    ),
    "two seen classes": (
        line("unseen.txt", *NAMES[2:]),
        f"{BUILD} --unseen unseen.txt",
        "at least 3 seen classes and an unseen one, but has 2 and 8",
    ),
    "too large a share": (None, f"{BUILD} --unseen 0.9", "at least 3 seen classes"),
    "no share": (None, f"{BUILD} --unseen 1.5", "a share between 0 and 1, or a file"),
    "a short split": (
        line("split.txt", "trainval"),
        f"{BUILD} --split split.txt",
        "each of the 1,797 images, one per line, but has 1 lines",
    ),
    "unseen classes with training images": (
        line("split.txt", *(["trainval", "test_seen", "test_unseen"] * 599)),
        f"{BUILD} --split split.txt",
        "must not be in trainval_loc",
    ),
    "a folder that is there": (lambda folder: (folder / "new").mkdir(), BUILD, "already exists"),
    "a place that cannot be written": (None, BUILD.replace("new", "/proc/x"), "folder with enough"),
    "a share of tests": (None, f"{BUILD} --test-seen 2", "must be between 0 and 1"),
    "nothing to do": (None, "", "required: command"),
    "a check of nothing": (None, "check nowhere", "nowhere/att_splits.mat"),
}


@pytest.mark.parametrize(("spoil", "command", "words"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_line_and_leaves_nothing(here, capsys, spoil, command, words):
    if spoil:
        spoil(here)
    before = sorted(here.rglob("*"))
    assert re.search(words, refused(command, capsys))
    assert sorted(here.rglob("*")) == before


def test_the_check_says_what_is_there_and_nothing_more(here, capsys):
    assert run(BUILD, capsys)[0] == 0
    code, out, _ = run("check new", capsys)
    assert code == 0
    assert re.search(
        r"images: +1,797: [\d,]+ trainval, [\d,]+ test_seen, [\d,]+ test_unseen\n", out
    )
    assert "classes:    8 seen, 2 unseen" in out
    assert "split:      own" in out
    assert re.findall("warning: (.*)", out) == ["3 features are the same for all images"]


def odd_package(folder):
    """Write a package with everything that the check warns of and that can still be used."""
    images, splits = tiny_variables()
    names = np.empty((7, 1), dtype=object)
    names[:, 0] = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]
    splits["allclasses_names"] = names
    splits["att"] = np.insert(splits["original_att"], 6, 1.0, axis=1)
    splits["att"][2] = 5
    images["features"][3] = 0
    seen, unseen = int(splits["trainval_loc"][0, 0]), int(splits["test_unseen_loc"][0, 0])
    images["features"][:, unseen - 1] = images["features"][:, seen - 1]
    splits["train_loc"], splits["val_loc"] = splits["trainval_loc"], splits["test_seen_loc"]
    return write_package(folder, images, splits)


def test_the_check_warns_of_what_is_known_to_go_wrong(here, capsys):
    odd_package(here / "odd")
    code, out, _ = run("check odd", capsys)
    assert code == 0
    for words in (
        "train_loc and val_loc contain 8 test-seen images",
        "1 classes have no images and are left out: gnu",
        "attributes are not normalised",
        "1 attributes are the same for all classes",
        "1 features are the same for all images",
        "1 images of trainval have the same features as one of test_unseen",
    ):
        assert f"warning: {words}" in out


def test_the_check_refuses_unseen_classes_in_trainval(here, capsys):
    images, splits = tiny_variables()
    splits["trainval_loc"][0], splits["test_unseen_loc"][0] = (
        splits["test_unseen_loc"][0].copy(),
        splits["trainval_loc"][0].copy(),
    )
    write_package(here / "bad", images, splits)
    assert "must" in refused("check bad", capsys)


def test_the_published_splits_are_told_from_own_ones(shared_data_dir, capsys):
    folder = shared_data_dir / "xlsa17" / "data" / "AWA1"
    if not (folder / "res101.mat").is_file():
        pytest.skip("AWA1 has no res101.mat")
    code, out, _ = run(f"check {folder}", capsys)
    assert code == 0
    assert "split:      proposed split of AWA1, version 1" in out
    assert "train_loc and val_loc contain 4,958 test-seen images" in out
