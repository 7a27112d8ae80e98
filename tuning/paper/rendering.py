"""A table as text, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "±": r"$\pm$", "$": r"\$", "–": "--"}


@dataclass(frozen=True)
class Table:
    """A table ready to print.

    Attributes:
        heading: One text a column.
        rows: One text a cell.
        caption: What it shows.
        notes: What is said below it.
        ours: Positions of the rows that are this project's own.
    """

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    notes: tuple[str, ...] = ()
    ours: frozenset[int] = frozenset()

    def text(self) -> str:
        """Return the table for a terminal, columns aligned."""
        cells = [self.heading, *self.rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.heading))]
        lines = [_aligned(row, widths) for row in cells]
        lines.insert(1, "-" * len(lines[0]))
        return "\n".join([self.caption, "", *lines, *(("", *self.notes) if self.notes else ())])

    def markdown(self) -> str:
        """Return the table in GitHub's Markdown; our rows are bold."""
        rule = ("---", *("---:" for _ in self.heading[1:]))
        rows = [
            tuple(f"**{cell}**" for cell in row) if k in self.ours else row
            for k, row in enumerate(self.rows)
        ]
        lines = [f"| {' | '.join(row)} |" for row in (self.heading, rule, *rows)]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)])

    def latex(self) -> str:
        """Return the table for LaTeX with the package booktabs."""
        rows = [f"{' & '.join(map(_escaped, row))} \\\\" for row in self.rows]
        if self.ours:
            rows.insert(min(self.ours), r"\midrule")
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                f"\\caption{{{_escaped(self.caption)}}}",
                f"\\begin{{tabular}}{{l{'r' * (len(self.heading) - 1)}}}",
                r"\toprule",
                f"{' & '.join(map(_escaped, self.heading))} \\\\",
                r"\midrule",
                *rows,
                r"\bottomrule",
                r"\end{tabular}",
                *(f"\\par\\footnotesize {_escaped(note)}" for note in self.notes),
                r"\end{table}",
            ]
        )

    def write(self, path: Path) -> None:
        """Write ``<path>.txt`` and ``<path>.tex``."""
        path.with_suffix(".txt").write_text(self.text() + "\n", encoding="utf-8")
        path.with_suffix(".tex").write_text(self.latex() + "\n", encoding="utf-8")


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    return "  ".join([f"{first[0]:{first[1]}}", *(f"{cell:>{width}}" for cell, width in others)])


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
