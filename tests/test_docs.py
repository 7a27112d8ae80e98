"""The documentation's links lead somewhere, and its command lines can be parsed."""

import importlib
import re
import shlex
import sys

import pytest
from commands import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(?:bash|)\n(.*?)^```", re.MULTILINE | re.DOTALL)
VALUES = {"<name>": "eszsl", "<study>": "s", "<digest>": "0123456789ab"}
"""Placeholders in command lines, and what may stand there."""


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    ids = re.findall(r'<a id="([^"]+)">', page.read_text(encoding="utf-8"))
    return {heading.replace(" ", "-") for heading in kept} | {*ids}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def command_lines():
    for page in PAGES:
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            for placeholder, value in VALUES.items():
                block = block.replace(placeholder, value)
            for line in block.replace("\\\n", " ").splitlines():
                words = re.split(r"[|;&><]", line.partition(" #")[0])[0].strip()
                if re.match(r"python (tuning/|-m mianet\.(extract|package) )", words):
                    yield pytest.param(words, id=f"{page.name}: {words[:60]}")


@pytest.mark.parametrize("line", list(command_lines()))
def test_command_lines_can_be_parsed(line, monkeypatch):
    _, script, *options = shlex.split(line.replace("python -m ", "python "))
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    monkeypatch.setattr(sys, "argv", [script, *options])
    if script == "tuning/search.py":
        assert module.parse_search_options("")
    else:
        parser = module.PARSER if script.startswith("tuning/") else module._parser()
        assert parser.parse_args(options)
