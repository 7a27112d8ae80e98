"""What an experiment finds: data, a table or a picture, claims and sentences, and their files."""

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

AGREES, UNDECIDED, CONTRADICTS = "agrees", "cannot be told", "contradicts"
VERDICTS: Mapping[int, str] = {1: AGREES, 0: UNDECIDED, -1: CONTRADICTS}
"""Sign of an interval that the paper says is above zero → whether the paper is right."""


@dataclass(frozen=True)
class Claim:
    """Something the paper states, beside what was found here.

    Attributes:
        states: The paper's statement.
        found: What was measured.
        verdict: Whether they agree.
    """

    states: str
    found: str
    verdict: str

    def __str__(self) -> str:
        """Return the claim as a sentence of a caption."""
        return f"Paper: {self.states}. Here: {self.found}; {self.verdict}."


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What an experiment found.

    Attributes:
        data: What the table or the picture shows; accuracies in percent.
        more: Further data by name, for files of their own.
        table: The table, if it is one.
        metrics: Figures for the record, as fractions of 1 or in the unit that the name says.
        claims: What the paper states of it.
        sentences: Further results, and their limits.
    """

    data: pd.DataFrame
    more: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    table: Table | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    sentences: tuple[str, ...] = ()

    @property
    def text(self) -> tuple[str, ...]:
        """Return everything in sentences, the claims first."""
        return (*map(str, self.claims), *self.sentences)


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

    def heading(self, evidence: Evidence, findings: Findings) -> str:
        """Return title and caption: data set, whose configuration, and the paper's claims."""
        return "\n".join([self.title, evidence.setup.caption, *map(str, findings.claims)])


def write(experiment: Experiment, evidence: Evidence, findings: Findings, folder: Path) -> None:
    """Write everything into a folder: data, table or picture, and a page that says it all.

    Args:
        experiment: The table or figure.
        evidence: What was trained for it.
        findings: What came of it.
        folder: Where the files go; it is made.
    """
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
        save_figure(draw, folder / name, experiment.heading(evidence, findings))
        body = f"![{experiment.title}]({name}.png)"
    (folder / f"{name}.md").write_text(
        _page(experiment, evidence, findings, body), encoding="utf-8"
    )


def _page(experiment: Experiment, evidence: Evidence, findings: Findings, body: str) -> str:
    sentences = "\n".join(f"- {sentence}" for sentence in findings.text)
    parts = [f"## {experiment.title}", f"{evidence.setup.caption}.", body, sentences]
    return "\n\n".join(part for part in parts if part) + "\n"


def claims_page(found: Mapping[str, Findings]) -> str:
    """Return a Markdown table of what the paper claims and what was found here.

    Args:
        found: Name of the table or figure → what was found.
    """
    rows = [
        f"| {name} | {claim.states} | {claim.found} | {claim.verdict} |"
        for name, findings in found.items()
        for claim in findings.claims
    ]
    return "\n".join(["| | the paper | here | |", "|---|---|---|---|", *rows]) + "\n"
