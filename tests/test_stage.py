"""Data sets come to a node whole, checked and once."""

import hashlib
import importlib.util
import json
import sys

import pytest
from commands import ROOT
from tiny_package import TINY, tiny_variables, write_package

from mianet.data import datasets
from mianet.data.extracted import BackboneRecord, write_backbone
from mianet.data.search_data import load_search_data
from mianet.errors import InputError

spec = importlib.util.spec_from_file_location("stage", ROOT / "infra/stage.py")
stage = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stage)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A shared folder with a data set, and a node that has none yet."""
    monkeypatch.setattr(datasets, "DATASETS", {"tiny": TINY})
    monkeypatch.setenv("MIANET_DATA_DIR", str(tmp_path / "node"))
    monkeypatch.setenv("MIANET_CACHE_DIR", str(tmp_path / "cache"))
    write_package(tmp_path / "shared" / "TINY", *tiny_variables())
    return tmp_path / "shared"


def bring(monkeypatch, source, *names):
    monkeypatch.setattr(sys, "argv", ["stage.py", str(source), *names])
    return stage.main.__wrapped__()


def test_a_data_set_is_fetched_once_and_converted(source, monkeypatch, tmp_path, capsys):
    assert bring(monkeypatch, source, "tiny") == 0
    first = capsys.readouterr().out
    assert "fetching TINY/res101.mat" in first
    assert bring(monkeypatch, source.as_uri(), "tiny") == 0
    second = capsys.readouterr().out
    assert "fetching" not in second
    (line,) = second.splitlines()
    assert line == first.splitlines()[-1]
    assert line.startswith("tiny: 24 trainval images, digest ")
    assert not list((tmp_path / "node").rglob("*.new"))


@pytest.mark.parametrize("wrong", [False, True])
def test_it_is_what_its_sums_say(source, monkeypatch, tmp_path, wrong):
    files = sorted((source / "TINY").iterdir())
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    if wrong:
        sums["res101.mat"] = "0" * 64
    text = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    (source / "TINY" / "SHA256SUMS").write_text(text)
    if wrong:
        with pytest.raises(InputError, match="must have the sha256 that SHA256SUMS gives, 000"):
            bring(monkeypatch, source, "tiny")
        assert not list((tmp_path / "node").rglob("*.*"))
    else:
        assert bring(monkeypatch, source, "tiny") == 0


def test_a_file_that_changed_is_fetched_again(source, monkeypatch, tmp_path, capsys):
    bring(monkeypatch, source, "tiny")
    (tmp_path / "node" / "TINY" / "att_splits.mat").write_bytes(b"half")
    capsys.readouterr()
    bring(monkeypatch, source, "tiny")
    assert capsys.readouterr().out.splitlines()[0].startswith("fetching TINY/att_splits.mat")


def test_a_source_without_it_is_one_line(source, monkeypatch):
    with pytest.raises(InputError, match=r"must contain TINY/res101\.mat"):
        bring(monkeypatch, source / "TINY", "tiny")


def test_without_names_nothing_is_fetched(source, monkeypatch, capsys):
    assert bring(monkeypatch, "/no/such/folder") == 0
    assert capsys.readouterr().out == ""


def test_class_embeddings_come_with_it(source, monkeypatch, tmp_path, capsys):
    (source / "TINY" / "words.json").write_text(
        json.dumps({name: [k, 1] for k, name in enumerate(["ant", "bee", "cat", "dog", "eel"])})
    )
    record = BackboneRecord(
        name="n", trained_on="t", weights="w", weights_sha256="0", preprocessing={}, versions={}
    )
    write_backbone(source / "TINY" / "words.json.json", record)
    write_backbone(source / "TINY" / "backbone.json", record)
    options = ("tiny", "--class-embedding", "TINY/words.json")
    assert bring(monkeypatch, source, *options) == 0
    assert "classes described by words.json (" in capsys.readouterr().out
    words = str(tmp_path / "node" / "TINY" / "words.json")
    data = load_search_data("tiny", embedding=[words])
    assert data.backbone == record
    assert data.embedding_backbones == (record,)
    for wrong in ("../words.json", "/words.json", "none.npy"):
        with pytest.raises(InputError, match=r"must be a path in the source|must contain"):
            bring(monkeypatch, source, "tiny", "--class-embedding", wrong)
