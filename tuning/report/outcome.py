"""The outcome of a study in a sentence, and the figures that a reader wants first."""

from __future__ import annotations

import math
from collections import Counter

from tuning.analysis.costs import costs
from tuning.compute.display import clock
from tuning.report.markup import Html, element
from tuning.report.subject import Subject, figure_words, hours, mean_words, percent
from tuning.tracking.recorded_studies import FinalTraining

_DASH = "–"
_HEADINGS = {"test_harmonic_mean": "test H", "test_zsl_accuracy": "test T1"}


def outcome(subject: Subject) -> str:
    """Return the outcome of the study in a sentence."""
    chosen = subject.selected
    if chosen is None:
        return f"No configuration was selected in study {subject.study.name}"
    what = f"Trial {chosen.number} of {len(subject.study.trials)} is selected"
    if chosen.is_paper:
        what += ", the paper’s own configuration"
    if chosen.confirmation:
        draws = list(chosen.confirmation.per_draw.values())
        what += f": {subject.symbol} {mean_words(draws)} % on {len(draws)} fresh draws"
    else:
        what += f": {subject.symbol} {percent(chosen.score)} % in validation"
    final = subject.trained(chosen)
    name = _test_figure(subject)
    if final is None or f"{name}_mean" not in final.figures:
        return what
    named = "H " if subject.objective.has_several else ""
    what += f", and {named}{figure_words(final.figures, name)} % on the test parts"
    paper = subject.trained(subject.paper)
    if paper and paper is not final and f"{name}_mean" in paper.figures:
        theirs = figure_words(paper.figures, name)
        what += f", where the paper’s configuration has {theirs} %"
    return what


def facts(subject: Subject) -> Html:
    """Return the figures that a reader wants first."""
    chosen, study = subject.selected, subject.study
    final = subject.trained(chosen)
    total = costs(study.work)[-1]
    of = "parts not recorded" if total.unknown else "test included"
    ended = Counter(trial.status for trial in study.trials)
    tested = _test_figure(subject)
    shown = [
        (
            f"validation {subject.symbol}",
            percent(chosen.score) if chosen else _DASH,
            f"{subject.executions} draws",
        ),
        (
            _HEADINGS[tested],
            _test(final, tested),
            f"{final.seeds} seeds" if final else "no final training",
        ),
        ("test AUSUC", _test(final, "test_ausuc"), "area of tr over ts"),
        ("trials", str(len(study.trials)), f"{ended['stopped_early']} stopped early"),
        ("wall time", clock(study.seconds) if math.isfinite(study.seconds) else _DASH, "search"),
        ("GPU hours", hours(total.gpu_hours), of)
        if total.gpu_hours
        else ("core hours", hours(total.core_hours), of),
    ]
    parts = (
        element("div", element("dt", name), element("dd", value, element("small", note)))
        for name, value, note in shown
    )
    return element("dl", *parts, class_="facts")


def _test_figure(subject: Subject) -> str:
    """Return the test figure that a reader wants first: of what was maximised, else H."""
    return "test_zsl_accuracy" if subject.objective.name == "zsl_accuracy" else "test_harmonic_mean"


def _test(final: FinalTraining | None, name: str) -> str:
    return figure_words(final.figures, name) if final else _DASH
