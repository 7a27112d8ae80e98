"""Makes vectors of classes from their names, for ``--class-embedding``."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections import Counter
from pathlib import Path

import torch

from mianet.data.extracted import exposure, record_of, write_backbone
from mianet.data.folders import read_splits
from mianet.data.tables import read_lines
from mianet.errors import InputError
from mianet.extraction.towers import Tower, normalised_texts


def write_class_vectors(
    names_from: Path, tower: Tower, prompt: str, out: Path, batch: int
) -> tuple[str, ...]:
    """Write a line for each class, its name and the vector of its prompt; and beside it the record.

    Args:
        names_from: A file with a name a line, or the folder of a package.
        tower: A network with a text tower.
        prompt: The text around a name, which stands for ``{}``.
        out: The ``.csv`` file to make; must not be there yet.
        batch: Texts that are computed at once.

    Returns:
        The classes' names.
    """
    if out.suffix.lower() != ".csv" or out.exists():
        raise InputError(f"--out must be a new .csv file, but got {out}; give another name")
    if prompt.count("{}") != 1 or set(prompt.replace("{}", "")) & set("{}"):
        raise InputError(f"--prompt must have {{}} once, for the class's name, but got {prompt!r}")
    names = read_splits(names_from, None)[2] if names_from.is_dir() else _lines(names_from)
    texts = [prompt.format(readable(name)) for name in names]
    parts = [
        normalised_texts(tower, texts[start : start + batch])
        for start in range(0, len(texts), batch)
    ]
    vectors = torch.cat(parts).tolist()
    heading = ["class", *(f"d{k}" for k in range(len(vectors[0])))]
    rows = [[name, *map("{:.7g}".format, row)] for name, row in zip(names, vectors, strict=True)]
    new = out.with_name(f".{out.name}.new")
    try:
        with new.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([heading, *rows])
        warning = exposure(tower.record, None)
        write_backbone(record_of(out), dataclasses.replace(tower.record, warning=warning))
        new.replace(out)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise InputError(f"--out must be a file that can be written, but {out}: {error}") from error
    return names


def readable(name: str) -> str:
    """Return a class's name as it stands in a text: ``001.Black_footed_Albatross`` as words."""
    return " ".join(re.sub(r"[_+]", " ", re.sub(r"^\d+\.", "", name)).split())


def _lines(path: Path) -> tuple[str, ...]:
    names = read_lines(path)
    name, count = Counter(names).most_common(1)[0] if names else ("", 1)
    if count > 1 or "" in names or not names:
        raise InputError(
            f"{path} must name each class once, one a line, but has {name!r} {count} times or an "
            "empty line"
        )
    return tuple(names)
