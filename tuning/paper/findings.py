"""What an experiment finds: data, a table or a picture, and sentences; and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd  # type: ignore[import-untyped]
from matplotlib.figure import Figure

from tuning.paper.drawing import save_figure
from tuning.paper.evidence import Evidence
from tuning.paper.rendering import Table


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What an experiment found.

    Attributes:
        data: What the table or the picture shows; accuracies in percent.
        more: Further data by name, for files of their own.
        table: The table, if it is one.
        metrics: Figures for the record, as fractions of 1 or in the unit that the name says.
        sentences: What can be read off, and what restricts it.
    """

    data: pd.DataFrame
    more: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    table: Table | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One table or figure of the paper.

    Attributes:
        name: Such as ``figure4``; its files are called so.
        title: What it shows, as its heading.
        arms: What it trains (names of ``ARMS``), with every seed.
        find: Computes it.
        draw: Draws what was found; None for a table.
    """

    name: str
    title: str
    arms: tuple[str, ...]
    find: Callable[[Evidence], Findings]
    draw: Callable[[Evidence, Findings], Figure] | None = None

    def heading(self, evidence: Evidence) -> str:
        """Return title and caption: what is shown, on what, by whose configuration."""
        return f"{self.title}\n{evidence.setup.caption}"


def write(experiment: Experiment, evidence: Evidence, findings: Findings, folder: Path) -> None:
    """Write everything into a folder: data, table or picture, and a page that says it all."""
    folder.mkdir(parents=True, exist_ok=True)
    name = experiment.name
    findings.data.to_csv(folder / f"{name}.csv", index=False)
    for what, data in findings.more.items():
        data.to_csv(folder / f"{name}_{what}.csv", index=False)
    body = ""
    if findings.table is not None:
        findings.table.write(folder / name)
        body = findings.table.markdown()
    if experiment.draw is not None:
        draw = partial(experiment.draw, evidence, findings)
        save_figure(draw, folder / name, experiment.heading(evidence))
        body = f"![{experiment.title}]({name}.png)"
    (folder / f"{name}.md").write_text(
        _page(experiment, evidence, findings, body), encoding="utf-8"
    )


def _page(experiment: Experiment, evidence: Evidence, findings: Findings, body: str) -> str:
    sentences = "\n".join(f"- {sentence}" for sentence in findings.sentences)
    parts = [f"## {experiment.title}", f"{evidence.setup.caption}.", body, sentences]
    return "\n\n".join(part for part in parts if part) + "\n"
