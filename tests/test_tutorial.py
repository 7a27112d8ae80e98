"""The tutorial of docs/data.md: every command, in order, on its own example."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import forks
import pytest
from commands import ROOT, run

pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra dev")
TITLE = "## Your own data, from images to predictions"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
IMPORTS = (
    "PIL.Image",
    "efficientnet_lite_pytorch",
    "h5py",
    "scipy.io",
    "sklearn.datasets",
    "torch",
)
AS_MODULE = "import runpy, sys; del sys.argv[0]; runpy.run_module(sys.argv[0], run_name='__main__')"
DIGITS = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}


def blocks():
    """Return the tutorial's blocks: the language and the text of each."""
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    (tutorial,) = re.findall(rf"^{re.escape(TITLE)}$(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    return BLOCK.findall(tutorial)


def carried_out(words, folder):
    """Run Python with these words, its imports done."""
    if words[0].startswith("tuning/"):
        return run(Path(words[0]).stem, *words[1:], cwd=folder, timeout=600)
    code = words[1] if words[0] == "-c" else AS_MODULE
    return forks.run_code(code, *words[1:], imports=IMPORTS, timeout=600)


@pytest.mark.timeout(900)
def test_every_command_does_what_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said, digest = {}, ""
    for language, text in blocks():
        lines = text.splitlines() if language == "bash" else []
        for words in [shlex.split(line)[1:] for line in lines] or [["-c", text]]:
            words = [word.replace("<digest>", digest) for word in words]
            ended = carried_out(words, tmp_path)
            assert ended.returncode == 0, ended.stdout + ended.stderr
            said[" ".join(words[:3])] = ended.stdout
            if found := re.search(r"registered mianet-my-digits-([0-9a-f]{12}) ", ended.stdout):
                digest = found[1]
    out = "\n".join(said.values())
    assert len(said) == 6
    assert "features.npy: 250 images of 10 classes, 1,280 features each" in out
    assert "classes:    8 seen, 2 unseen" in out
    assert "backbone:   efficientnet-lite0" in out
    assert "50 images classified among 10 classes" in out
    rows = list(csv.DictReader((tmp_path / "answers.csv").read_text().splitlines()))
    assert len(rows) == 50
    assert {row["class"] for row in rows} <= DIGITS
    page = (tmp_path / "ray_results/first/report.html").read_text(encoding="utf-8")
    assert "Features were extracted by efficientnet-lite0" in page
    assert "Warning: efficientnet-lite0 was trained on ImageNet-1k" in page
