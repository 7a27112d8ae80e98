"""The data of the report's pictures, as tables for whoever draws their own."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from tuning.analysis.costs import costs
from tuning.analysis.selection import objective_values
from tuning.report.subject import Subject


def picture_data(subject: Subject) -> dict[str, str]:
    """Return name of a file → its text, CSV."""
    names = [searched.name for searched in subject.searched]
    chosen = subject.selected.run_id if subject.selected else ""
    trials = (
        (
            t.number,
            t.status,
            t.origin,
            int(t.run_id == chosen),
            t.score,
            t.best_epoch,
            t.epochs,
            t.seconds,
            t.confirmation.score if t.confirmation else "",
            *(t.hyperparameters.get(name, "") for name in names),
        )
        for t in subject.study.trials
    )
    heading = (
        "trial",
        "status",
        "origin",
        "selected",
        "score",
        "best_epoch",
        "epochs",
        "seconds",
        "fresh_score",
        *names,
    )
    curves = (
        (number, epoch, value)
        for number, curve in subject.study.curves.items()
        for epoch, value in curve.items()
    )
    spent = (
        (part.title, part.runs, part.unknown, part.hours, part.gpu_hours, part.core_hours)
        for part in costs(subject.study.work)
    )
    shares = (
        (name, repeat, value)
        for name, values in subject.importances.items()
        for repeat, value in enumerate(values)
    )
    selection = subject.selection
    points = (
        (
            (trial.number, *objective_values(trial, fresh=selection.confirmed))
            for trial in selection.front
        )
        if selection
        else ()
    )
    front = {"pareto_front.csv": _csv(("trial", *subject.objective.values), points)}
    return {
        **(front if subject.objective.has_several else {}),
        "importances.csv": _csv(("hyperparameter", "repetition", "share"), shares),
        "trials.csv": _csv(heading, trials),
        "learning_curves.csv": _csv(("trial", "epoch", subject.objective.metric), curves),
        "cost.csv": _csv(
            ("part", "runs", "without_time", "hours", "gpu_hours", "core_hours"), spent
        ),
    }


def _csv(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(heading)
    writer.writerows(rows)
    return file.getvalue()
