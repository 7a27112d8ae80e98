"""The outcome of a study in a sentence, and the figures that a reader wants first."""

from __future__ import annotations

import math
from collections import Counter

from tuning.costs import costs
from tuning.page.markup import Html, element
from tuning.page.subject import Subject, figure_words, hours, mean_words, percent
from tuning.recorded_studies import FinalTraining
from tuning.terminal import clock

_DASH = "–"


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
        what += f": H {mean_words(draws)} % on {len(draws)} fresh draws"
    else:
        what += f": H {percent(chosen.score)} % in validation"
    final = subject.trained(chosen)
    if final is None or "test_harmonic_mean_mean" not in final.figures:
        return what
    what += f", and {figure_words(final.figures, 'test_harmonic_mean')} % on the test parts"
    paper = subject.trained(subject.paper)
    if paper and paper is not final and "test_harmonic_mean_mean" in paper.figures:
        theirs = figure_words(paper.figures, "test_harmonic_mean")
        what += f", where the paper’s configuration has {theirs} %"
    return what


def facts(subject: Subject) -> Html:
    """Return the figures that a reader wants first."""
    chosen, study = subject.selected, subject.study
    final = subject.trained(chosen)
    total = costs(study.work)[-1]
    of = "parts not recorded" if total.unknown else "test included"
    ended = Counter(trial.status for trial in study.trials)
    shown = [
        ("validation H", percent(chosen.score) if chosen else _DASH, f"{subject.executions} draws"),
        ("test H", _test(final), f"{final.seeds} seeds" if final else "no final training"),
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


def _test(final: FinalTraining | None, name: str = "test_harmonic_mean") -> str:
    return figure_words(final.figures, name) if final else _DASH
