"""The tables of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tuning.analysis.costs import costs
from tuning.analysis.outcome_table import FIGURES
from tuning.compute.display import clock
from tuning.report.markup import Html, element, grouped_table, joined, note, table
from tuning.report.subject import (
    Subject,
    figure_words,
    hours,
    mean_words,
    number_words,
    percent,
)
from tuning.spec.models import MODELS
from tuning.spec.records import RecordedTrial

_DASH = "–"


def configuration(subject: Subject) -> Html:
    """Show the selected hyperparameters beside the paper's."""
    chosen = subject.selected
    if chosen is None:
        return note(subject.nothing)
    paper = _published(subject)
    searched = [s.name for s in subject.searched]
    others = [name for name in chosen.hyperparameters if name not in searched]
    changed = [n for n in others if n in paper and not _equal(chosen.hyperparameters[n], paper[n])]
    ranges = {s.name: s.words for s in subject.searched}

    def rows(names: Sequence[str]) -> list[tuple[object, ...]]:
        return [
            (
                element("code", name),
                number_words(chosen.hyperparameters.get(name, _DASH)),
                number_words(paper.get(name, _DASH)),
                ranges.get(name, "not searched"),
            )
            for name in names
        ]

    heading = ("", f"selected, trial {chosen.number}", "paper’s", "searched in")
    epochs = ("epochs", str(chosen.best_epoch), _paper_epochs(subject), "chosen by validation")
    return joined(
        [
            element("p", subject.selection.why if subject.selection else ""),
            table(heading, [*rows(searched), *rows(changed), epochs]),
            element(
                "details",
                element("summary", "the settings that were not searched"),
                table(heading[:3], (row[:3] for row in rows(sorted(set(others) - set(changed))))),
            ),
        ]
    )


def results(subject: Subject) -> Html:
    """Show validation, fresh draws and test of the selected and the paper's configuration."""
    shown = [t for t in (subject.paper, subject.selected) if t is not None]
    shown = [t for i, t in enumerate(shown) if t.run_id not in {o.run_id for o in shown[:i]}]
    if not shown:
        return note(subject.nothing)
    heading = ("", *FIGURES.values(), "AUSUC")
    groups = [(_name(subject, trial), _stages(subject, trial)) for trial in shown]
    notes = [
        "Accuracies in percent. ts and tr: per-class accuracy of unseen and of seen classes’ "
        "images among all classes; H: their harmonic mean; T1: unseen classes’ images among the "
        "unseen classes; AUSUC: the area under the curve of seen and unseen. Validation is the "
        "mean over the draws that all trials share; fresh draws (mean ± standard error) had no "
        "part in the search; test is mean ± standard deviation over seeds.",
        *_final_notes(subject),
    ]
    return joined([grouped_table(heading, groups), *map(note, notes)])


def cost(subject: Subject) -> Html:
    """Show the device time that the study took."""
    parts = costs(subject.study.work)
    on_gpus, unknown = parts[-1].gpu_hours > 0, parts[-1].unknown
    unit = "GPU hours" if on_gpus else "CPU core hours"
    rows = [
        (
            part.title,
            str(part.runs),
            *(
                hours(value) if part.unknown < part.runs else _DASH
                for value in (part.hours, part.gpu_hours if on_gpus else part.core_hours)
            ),
        )
        for part in parts
    ]
    words = (
        f"{unit}: the time of every trial, draw and seed, times the "
        f"{'GPUs' if on_gpus else 'cores'} that it had. A trial counts from its start to its end, "
        "so the start of its process too."
    )
    if unknown:
        words += f" Runs without a recorded time, which are not counted: {unknown}."
    return joined([table(("", "runs", "hours at work", unit), rows), note(words)])


def trials(subject: Subject) -> Html:
    """List all trials."""
    if not subject.study.trials:
        return note("No trial was recorded.")
    names = [s.name for s in subject.searched]
    fresh = any(trial.confirmation for trial in subject.study.trials)
    heading = [
        "trial",
        subject.symbol,
        *([f"fresh {subject.symbol}"] if fresh else []),
        "best epoch",
        "epochs",
        "status",
        *names,
        "time",
    ]
    head = element(
        "tr",
        *(
            element("th", name, scope="col", class_="words" if name == "status" else None)
            for name in heading
        ),
    )
    rows = (_trial_row(subject, trial, names, fresh) for trial in subject.study.trials)
    listing = element("table", element("thead", head), element("tbody", *rows), class_="sortable")
    reasons = [
        (str(t.number), t.status.replace("_", " "), element("span", t.reason))
        for t in subject.study.trials
        if t.reason and t.status in ("failed", "infeasible")
    ]
    told = (
        element(
            "details",
            element("summary", f"why {len(reasons)} diverged or failed"),
            table(("trial", "status", "reason"), reasons),
        )
        if reasons
        else Html("")
    )
    return joined([element("div", listing, class_="tall"), told])


def _name(subject: Subject, trial: RecordedTrial) -> str:
    is_chosen = subject.selected is not None and trial.run_id == subject.selected.run_id
    who = "selected" if is_chosen else "paper’s"
    epochs = f"{trial.best_epoch} epoch{'s' * (trial.best_epoch != 1)}"
    return f"{who}, trial {trial.number}, {epochs}"


def _stages(subject: Subject, trial: RecordedTrial) -> list[tuple[str, ...]]:
    """Return a row for each stage that a configuration came to."""
    validation = (percent(trial.metrics.get(f"val_{name}", math.nan)) for name in FIGURES)
    rows = [(f"validation, {trial.planned_executions} draws", *validation, "")]
    if trial.confirmation:
        fresh = list(trial.confirmation.per_draw.values())
        means = [
            percent(trial.confirmation.metrics.get(f"val_{name}", math.nan)) for name in FIGURES
        ]
        own = trial.objective
        if own in FIGURES:
            means[list(FIGURES).index(own)] = mean_words(fresh)
        rows.append((f"{len(fresh)} fresh draws", *means, ""))
    if final := subject.trained(trial):
        rows.append((f"test, {final.seeds} seeds", *_tested(final.figures, "test_")))
        if math.isfinite(final.constant):
            calibrated = _tested(final.figures, "calibrated_test_")
            rows.append((f"test, calibrated by {final.constant:.3f}", *calibrated))
    return rows


def _tested(figures: Mapping[str, float], prefix: str) -> list[str]:
    return [figure_words(figures, f"{prefix}{name}") for name in (*FIGURES, "ausuc")]


def _trial_row(subject: Subject, trial: RecordedTrial, names: Sequence[str], fresh: bool) -> Html:
    number = str(trial.number) + (" (paper)" if trial.is_paper else "")
    confirmed = trial.confirmation.score if trial.confirmation else math.nan
    is_chosen = subject.selected is not None and trial.run_id == subject.selected.run_id
    cells = [
        element("th", number, scope="row", data_v=trial.number),
        element("td", percent(trial.score, 2)),
        *([element("td", percent(confirmed, 2))] if fresh else []),
        element("td", trial.best_epoch or _DASH),
        element("td", trial.epochs or _DASH),
        element("td", trial.status.replace("_", " "), class_="words"),
        *(_value_cell(trial.hyperparameters.get(name, _DASH)) for name in names),
        element(
            "td",
            clock(trial.seconds) if math.isfinite(trial.seconds) else _DASH,
            data_v=f"{trial.seconds:.1f}",
        ),
    ]
    return element(
        "tr",
        *cells,
        id=f"trial-{trial.number}",
        data_t=trial.number,
        class_="chosen" if is_chosen else None,
    )


def _value_cell(value: str) -> Html:
    return element("td", number_words(value), data_v=value)


def _final_notes(subject: Subject) -> list[str]:
    numbers = {trial.run_id: trial.number for trial in subject.study.trials}
    notes = []
    for role, final in subject.study.finals.items():
        if final.status == "failed":
            notes.append(f"The final training of the {role} configuration failed: {final.reason}")
    selected = subject.study.finals.get("selected")
    if selected and subject.selected and selected.source_run_id != subject.selected.run_id:
        number = numbers.get(selected.source_run_id)
        notes.append(
            f"The final training is of trial {number}, which was selected at the time; "
            "what has been recorded since selects another."
        )
    return notes


def _published(subject: Subject) -> dict[str, str]:
    """Return the paper's values: of its trial, else those that this version knows."""
    if subject.paper:
        return dict(subject.paper.hyperparameters)
    dataset = subject.study.settings.get("dataset", "")
    if subject.model not in MODELS or not dataset:
        return {}
    published = MODELS[subject.model].published(dataset).as_dict()
    return {name: str(value) for name, value in published.items()}


def _paper_epochs(subject: Subject) -> str:
    return str(subject.paper.best_epoch) if subject.paper else _DASH


def _equal(one: str, other: str) -> bool:
    return number_words(one) == number_words(other)
