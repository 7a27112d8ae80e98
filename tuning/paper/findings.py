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

AGREES, UNDECIDED, CONTRADICTS = "agrees", "inconclusive", "contradicts"
VERDICTS: Mapping[int, str] = {1: AGREES, 0: UNDECIDED, -1: CONTRADICTS}
"""Sign of an interval that the paper says is above zero → the verdict on that claim."""

_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%_#$"} | {"±": r"$\pm$", "–": "--", "†": r"\dag{}", "‡": r"\ddag{}"}
)


@dataclass(frozen=True)
class Table:
    """A table ready to print."""

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    notes: tuple[str, ...] = ()
    ours: int = 0  # how many of the last rows are this project's own

    def text(self) -> str:
        """Return the table for a terminal, columns aligned."""
        first, *columns = self.heading
        methods, *cells = zip(*self.rows, strict=True)
        frame = pd.DataFrame(dict(enumerate(cells)), index=methods).rename_axis(columns=first)
        lines = [self.caption, "", frame.to_string(header=columns)]
        return "\n".join([*lines, *(("", *self.notes) if self.notes else ())])

    def markdown(self) -> str:
        """Return the table in GitHub's Markdown; our rows are bold."""
        published = len(self.rows) - self.ours
        bold = [tuple(f"**{cell}**" for cell in row) for row in self.rows[published:]]
        rule = ("---", *("---:" for _ in self.heading[1:]))
        rows = (self.heading, rule, *self.rows[:published], *bold)
        return "\n".join([*map(_markdown_row, rows), *(f"\n{note}" for note in self.notes)])

    def latex(self) -> str:
        """Return the table for LaTeX with the package booktabs."""
        heading, *rows = (
            " & ".join(cell.translate(_LATEX) for cell in row) + r" \\"
            for row in (self.heading, *self.rows)
        )
        if self.ours:
            rows.insert(-self.ours, r"\midrule")
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                f"\\caption{{{self.caption.translate(_LATEX)}}}",
                f"\\begin{{tabular}}{{l{'r' * (len(self.heading) - 1)}}}",
                *(r"\toprule", heading, r"\midrule", *rows, r"\bottomrule"),
                r"\end{tabular}",
                *(f"\\par\\footnotesize {note.translate(_LATEX)}" for note in self.notes),
                r"\end{table}",
            ]
        )

    def write(self, path: Path) -> None:
        path.with_suffix(".txt").write_text(self.text() + "\n", encoding="utf-8")
        path.with_suffix(".tex").write_text(self.latex() + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Claim:
    """What the paper states, beside what was measured here, and whether they agree."""

    states: str
    found: str
    verdict: str

    def __str__(self) -> str:
        return f"Paper: {self.states}. Here: {self.found}; {self.verdict}."


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What an experiment found."""

    data: pd.DataFrame  # of the table or picture; accuracies in percent
    extra: Mapping[str, pd.DataFrame] = field(default_factory=dict)  # for files of their own
    table: Table | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)  # fractions of 1
    claims: tuple[Claim, ...] = ()
    sentences: tuple[str, ...] = ()

    @property
    def text(self) -> tuple[str, ...]:
        return (*map(str, self.claims), *self.sentences)


@dataclass(frozen=True)
class Experiment:
    """One table or figure of the paper."""

    name: str  # such as ``figure4``; also the name of its files
    shows: str
    arms: tuple[str, ...]  # what it trains, names of ``ARMS``
    find: Callable[[Evidence], Findings]
    draw: Callable[[Evidence, Findings], Figure] | None = None  # None for a table

    @property
    def title(self) -> str:
        kind = self.name.rstrip("0123456789")
        return f"{kind.capitalize()} {self.name.removeprefix(kind)}. {self.shows}"


def write(experiment: Experiment, evidence: Evidence, findings: Findings, folder: Path) -> None:
    """Write everything into a folder: data, table or picture, and a page with all of it.

    Args:
        experiment: The table or figure.
        evidence: What was trained for it.
        findings: What was found.
        folder: Where the files go; created if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name, title, caption = experiment.name, experiment.title, evidence.setup.caption
    findings.data.to_csv(folder / f"{name}.csv", index=False)
    for what, data in findings.extra.items():
        data.to_csv(folder / f"{name}_{what}.csv", index=False)
    body = ""
    if findings.table is not None:
        findings.table.write(folder / name)
        body = findings.table.markdown()
    if experiment.draw is not None:
        draw = partial(experiment.draw, evidence, findings)
        save_figure(draw, folder / name, "\n".join([title, caption, *map(str, findings.claims)]))
        body = f"![{title}]({name}.png)"
    sentences = "\n".join(f"- {sentence}" for sentence in findings.text)
    page = "\n\n".join(filter(None, [f"## {title}", f"{caption}.", body, sentences]))
    (folder / f"{name}.md").write_text(f"{page}\n", encoding="utf-8")


def claims_page(found: Mapping[str, Findings]) -> str:
    """Return a Markdown table of what the paper claims and what was found here, by name."""
    rows = [
        (name, claim.states, claim.found, claim.verdict)
        for name, findings in found.items()
        for claim in findings.claims
    ]
    heading = ["| | the paper | here | |", "|---|---|---|---|"]
    return "\n".join([*heading, *map(_markdown_row, rows)]) + "\n"


def _markdown_row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
