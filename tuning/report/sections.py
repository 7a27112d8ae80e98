"""The sections of a report, in the order in which it is read."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tuning.analysis.importances import FEWEST_TRIALS, REPEATS
from tuning.analysis.insights import bands, sentences
from tuning.analysis.selection import objective_values
from tuning.report import final_pictures, search_pictures, tables
from tuning.report.markup import Html, element, joined, note, table
from tuning.report.subject import (
    Subject,
    figure_words,
    percent,
)

_FEWEST_FOR_PICTURE = 2
_MULTIPLIER = "latent_multiplier"
_NOTHING_TOLD = (
    "Nothing yet: there are too few trials to say whether more would help, the selected one lies "
    "at no edge of what was searched, and few trials or none diverged."
)
_DASH = "–"
_DOTS = (
    ("dot finished", "ran to its end"),
    ("dot stopped_early", "stopped early"),
    ("dot paper", "the paper’s"),
    ("dot selected", "selected"),
)


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: What addresses it.
        title: Its heading.
        body: Its content.
    """

    name: str
    title: str
    body: Html


def sections(subject: Subject) -> list[Section]:
    """Return all sections; one that has nothing to show says why."""
    return [
        Section("configuration", "Selected configuration", tables.configuration(subject)),
        Section("results", "Results", tables.results(subject)),
        Section("insights", "What the trials tell", insights(subject)),
        *([Section("front", "H and T1", front(subject))] if subject.objective.has_several else []),
        Section("history", "Optimisation history", history(subject)),
        Section("parallel", "Parallel coordinates", parallel(subject)),
        Section("slices", "Slices", slices(subject)),
        Section("importances", "Importances", importance(subject)),
        Section("curves", "Learning curves", curves(subject)),
        Section("confusion", "Confusion between classes", confusion(subject)),
        Section("bias", "Seen and unseen", bias(subject)),
        Section("cost", "Cost", tables.cost(subject)),
        Section("trials", "All trials", tables.trials(subject)),
    ]


def insights(subject: Subject) -> Html:
    """Say what the trials suggest to do next, and how the score goes with the multiplier."""
    told = sentences(subject.study.trials, subject.space, subject.selected)
    points = (element("li", f"{words}.") for words in told)
    parts = [element("ul", *points, class_="told") if told else note(_NOTHING_TOLD)]
    if _MULTIPLIER in subject.space:
        parts += _by_multiplier(subject)
    return joined(parts)


def _by_multiplier(subject: Subject) -> list[Html]:
    found = bands(subject.study.trials, _MULTIPLIER, subject.space[_MULTIPLIER])
    rows = [
        (
            f"{band.low:.2f} to {band.high:.2f}",
            str(len(band.scores)),
            percent(max(band.scores, default=math.nan)),
            percent(statistics.median(band.scores) if band.scores else math.nan),
        )
        for band in found
    ]
    heading = (
        element("code", _MULTIPLIER),
        "trials",
        *(f"{x} {subject.symbol}" for x in ("best", "median")),
    )
    words = (
        "The trials’ scores by their latent multiplier, in percent. Everything else differs "
        "between these trials too; figure 6 of the reproduction changes the multiplier alone."
    )
    searched = [one for one in subject.searched if one.name == _MULTIPLIER]
    if not searched or _too_few(subject):
        return [table(heading, rows), note(words)]
    caption = (
        f"The paper’s figure 6 from the trials: the line is their mean {subject.symbol} in each of "
        f"{len(found)} equal parts of the range, with ± its standard error, the dashed one their "
        "best. A part with few trials says little, and a best of many is partly luck."
    )
    legend = [("best", "mean"), ("level", "best"), *_DOTS]
    drawn = search_pictures.by_band(subject, searched[0], found)
    return [_figure(drawn, caption, legend), table(heading, rows), note(words)]


def front(subject: Subject) -> Html:
    """Show H against T1 of the trials that the choice is among, and their Pareto front."""
    selection = subject.selection
    if selection is None:
        return note(subject.nothing)
    on = "fresh draws" if selection.confirmed else "the draws that all trials share"
    caption = (
        f"Each dot is a trial at its best epoch, on {on}; the line joins the Pareto front: nothing "
        "is better than those in both. The one with the highest mean of H and T1 is chosen."
    )
    legend = [("dot selected", "selected"), ("dot paper", "the paper’s"), ("best", "Pareto front")]
    rows = [
        (
            f"trial {trial.number}",
            *map(percent, objective_values(trial, fresh=selection.confirmed)),
            str(trial.best_epoch),
        )
        for trial in selection.front
    ]
    return joined(
        [
            _figure(search_pictures.front(subject, selection), caption, legend),
            table(("Pareto front", "H", "T1", "epochs"), rows),
        ]
    )


def history(subject: Subject) -> Html:
    """Show the score by trial."""
    if not subject.study.trials:
        return note("No trial was recorded.")
    legend = [
        *_DOTS,
        ("lost", "diverged or failed"),
        ("best", "best so far"),
        ("level", "the paper’s score"),
    ]
    caption = (
        f"Score of each trial, its best mean {subject.symbol} over the epochs. What is selected "
        "need not have the highest: that is partly luck, and fresh draws decide."
    )
    return _figure(search_pictures.history(subject), caption, legend)


def parallel(subject: Subject) -> Html:
    """Show all trials' values and scores as lines."""
    if reason := _too_few(subject):
        return note(reason)
    caption = (
        "Each line is a trial, the stronger its colour the higher its score; blue is selected, "
        "orange the paper’s. Axes are logarithmic where values were drawn so."
    )
    return _figure(search_pictures.parallel(subject), caption)


def slices(subject: Subject) -> Html:
    """Show the score against each hyperparameter."""
    if reason := _too_few(subject):
        return note(reason)
    pictures = (element("div", one) for one in search_pictures.slices(subject))
    return joined(
        [
            element("div", *pictures, class_="many"),
            note("Trials that were stopped early are rings: their score is of fewer epochs."),
        ]
    )


def importance(subject: Subject) -> Html:
    """Show which hyperparameters mattered."""
    trials = subject.with_values(subject.candidates)
    shares = subject.importances
    if not shares:
        return note(
            f"At least {FEWEST_TRIALS} trials that ended well and differ are needed to tell, but "
            f"there are {len(trials)}."
        )
    caption = (
        f"Share of the score’s variance by fANOVA (Hutter et al., 2014) on {len(trials)} trials "
        "that ended well; the lines reach over "
        f"{REPEATS} forests on trials drawn anew. A random forest predicts the score over the "
        "whole range, bad corners included: a small share does not say that the value does not "
        "matter near the best."
    )
    return _figure(search_pictures.importance(shares), caption)


def curves(subject: Subject) -> Html:
    """Show what is maximised by epoch."""
    longest = max((max(c, default=0) for c in subject.study.curves.values()), default=0)
    if longest < _FEWEST_FOR_PICTURE:
        return note(
            f"{subject.model_title} has no curve: each of its trials has one epoch."
            if longest
            else "No epoch was recorded."
        )
    ended = Counter(trial.status for trial in subject.study.trials)
    caption = (
        f"Mean {subject.symbol} over {subject.executions} draws by epoch. "
        f"{ended['stopped_early']} of {len(subject.study.trials)} trials were stopped early: "
        "their curves are fainter, and end in a ring."
    )
    legend = [
        ("line selected", "selected"),
        ("line paper", "the paper’s"),
        ("line", "others"),
        ("end", "stopped early"),
    ]
    return _figure(search_pictures.curves(subject), caption, legend)


def confusion(subject: Subject) -> Html:
    """Show which classes are taken for which on the test parts."""
    final = subject.trained(subject.selected)
    if final is None or final.confusion is None:
        return note(_no_final(subject))
    worst = final_pictures.worst_confusions(final.confusion)
    caption = (
        f"Test images by class (row) and by what they are taken for (column) among all classes, "
        f"of the selected configuration, {final.seeds} seeds together. Seen classes come first, "
        "the dashed lines part them from the unseen ones: what lies in the lower left are unseen "
        "classes taken for seen ones. The darker, the larger the share of the row."
    )
    rows = [(a, b, f"{percent(share)} %", f"{images:,}") for a, b, share, images in worst]
    return joined(
        [
            _figure(final_pictures.confusion(final.confusion), caption),
            element("h3", "Most often taken for another"),
            table(("class", "taken for", "of its images", "predictions"), rows),
        ]
    )


def bias(subject: Subject) -> Html:
    """Show the curve of seen against unseen accuracy."""
    by_trial = {"paper": subject.paper, "selected": subject.selected}
    if subject.selected and subject.selected.is_paper:
        del by_trial["paper"]
    trained = {role: subject.trained(trial) for role, trial in by_trial.items()}
    finals = {role: final for role, final in trained.items() if final and final.curves}
    if not finals:
        return note(_no_final(subject))
    words = {"selected": "selected", "paper": "the paper’s"}
    areas = ", ".join(
        f"{words[role]} {figure_words(final.figures, 'test_ausuc')} %"
        for role, final in finals.items()
    )
    caption = (
        "A constant is taken off the scores of seen classes (calibrated stacking, Chao et al., "
        "2016). As it goes from −∞ to ∞, tr falls and ts rises; a line is a seed, the dots are "
        "where it is 0, as in the table. The area under the curve, AUSUC, does not depend on the "
        f"constant: {areas}."
    )
    legend = [(f"curve {role}", words[role]) for role in finals]
    if any(math.isfinite(final.constant) for final in finals.values()):
        legend.append(("mark calibrated", "at the constant that validation chose"))
    return _figure(final_pictures.seen_unseen(finals), caption, legend)


def _too_few(subject: Subject) -> str:
    count = len(subject.with_values(subject.candidates))
    if not subject.searched:
        return "Nothing was searched: every trial has the same configuration."
    if count < _FEWEST_FOR_PICTURE:
        return f"At least two trials that ended well are needed, but there are {count}."
    return ""


def _no_final(subject: Subject) -> str:
    if subject.selected is None:
        return subject.nothing
    if subject.trained(subject.selected) is None:
        return (
            "The selected configuration had no final training, and only that opens the test "
            "parts. To have it: python tuning/final.py"
        )
    return "The final training did not record it: it diverged, or is of an earlier version."


def _figure(drawn: Html, caption: str, legend: Sequence[tuple[str, str]] = ()) -> Html:
    return element(
        "figure",
        element("div", drawn, class_="scroll wide"),
        _legend(legend) if legend else "",
        element("figcaption", caption),
    )


def _legend(entries: Sequence[tuple[str, str]]) -> Html:
    return element(
        "ul",
        *(element("li", _sample(look), words) for look, words in entries),
        class_="legend",
    )


def _sample(look: str) -> Html:
    """Return a mark as it looks in the picture."""
    if look.split()[0] in ("dot", "end", "mark"):
        mark = element("circle", cx=9, cy=6, r=4, class_=look)
    elif look == "lost":
        mark = element("path", d="M6 3l6 6m0-6l-6 6", class_=look)
    else:
        mark = element("path", d="M1 6h16", class_=look)
    return element("svg", mark, viewBox="0 0 18 12", aria_hidden="true")
