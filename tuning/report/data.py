"""The data of the report's pictures, as tables for whoever draws their own."""

from __future__ import annotations

from tuning.analysis.costs import costs
from tuning.analysis.selection import objective_values
from tuning.report.subject import Subject
from tuning.spec.final_files import csv_text

_TRIAL = (
    *("trial", "status", "origin", "selected", "score", "best_epoch", "epochs", "seconds"),
    "fresh_score",
)
_COST = ("part", "runs", "without_time", "hours", "gpu_hours", "core_hours")


def picture_data(subject: Subject) -> dict[str, str]:
    """Return name of a file → its text, CSV."""
    names = [searched.name for searched in subject.searched]
    files = {
        "importances.csv": csv_text(
            [
                (name, repeat, value)
                for name, values in subject.importances.items()
                for repeat, value in enumerate(values)
            ],
            ("hyperparameter", "repetition", "share"),
        ),
        "trials.csv": csv_text(
            [
                (
                    *(t.number, t.status, t.origin, int(subject.is_selected(t))),
                    *(t.score, t.best_epoch, t.epochs, t.seconds),
                    t.confirmation.score if t.confirmation else "",
                    *(t.hyperparameters.get(name, "") for name in names),
                )
                for t in subject.study.trials
            ],
            (*_TRIAL, *names),
        ),
        "learning_curves.csv": csv_text(
            [
                (number, epoch, value)
                for number, curve in subject.study.curves.items()
                for epoch, value in curve.items()
            ],
            ("trial", "epoch", subject.objective.metric),
        ),
        "cost.csv": csv_text(
            [
                (part.title, part.runs, part.unknown, part.hours, part.gpu_hours, part.core_hours)
                for part in costs(subject.study.work)
            ],
            _COST,
        ),
    }
    if subject.objective.has_several and (selection := subject.selection):
        files["pareto_front.csv"] = csv_text(
            [(t.number, *objective_values(t, fresh=selection.confirmed)) for t in selection.front],
            ("trial", *subject.objective.values),
        )
    return files
