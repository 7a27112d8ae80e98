"""A table as text, Markdown and LaTeX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd  # type: ignore[import-untyped]

_LATEX = {
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "±": r"$\pm$",
    "–": "--",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
}


@dataclass(frozen=True)
class Table:
    """A table ready to print.

    Attributes:
        heading: A text for each column.
        rows: A text for each cell.
        caption: What the table shows.
        notes: Sentences below it.
        ours: Positions of this project's own rows.
    """

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    notes: tuple[str, ...] = ()
    ours: frozenset[int] = frozenset()

    def text(self) -> str:
        """Return the table for a terminal, columns aligned."""
        first, *columns = self.heading
        methods, *cells = zip(*self.rows, strict=True)
        frame = pd.DataFrame(dict(enumerate(cells)), index=methods).rename_axis(columns=first)
        lines = [self.caption, "", frame.to_string(header=columns)]
        return "\n".join([*lines, *(("", *self.notes) if self.notes else ())])

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


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
