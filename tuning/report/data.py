"""The data behind the report's pictures, as tables for readers who draw their own."""

from __future__ import annotations

from tuning.analysis.costs import costs
from tuning.analysis.selection import objective_values
from tuning.report.subject import Subject
from tuning.spec.final_files import csv_text


def picture_data(subject: Subject) -> dict[str, str]:
    """Return file name → its text, as CSV."""
    names = [searched.name for searched in subject.searched]
    of_trial = ("status", "origin", "score", "best_epoch", "epochs", "seconds")
    trials = [
        (
            *(t.number, *(getattr(t, name) for name in of_trial), int(subject.is_selected(t))),
            t.confirmation.score if t.confirmation else "",
            *(t.hyperparameters.get(name, "") for name in names),
        )
        for t in subject.study.trials
    ]
    shares = [(n, k, v) for n, values in subject.importances.items() for k, v in enumerate(values)]
    curves = [(n, e, v) for n, curve in subject.study.curves.items() for e, v in curve.items()]
    parts = [
        (part.title, part.runs, part.unknown, part.hours, part.gpu_hours, part.core_hours)
        for part in costs(subject.study.work)
    ]
    files = {
        "importances.csv": csv_text(shares, ("hyperparameter", "repetition", "share")),
        "trials.csv": csv_text(trials, ("trial", *of_trial, "selected", "fresh_score", *names)),
        "learning_curves.csv": csv_text(curves, ("trial", "epoch", subject.objective.metric)),
        "cost.csv": csv_text(
            parts, ("part", "runs", "without_time", "hours", "gpu_hours", "core_hours")
        ),
    }
    if subject.objective.has_several and (selection := subject.selection):
        front = [
            (t.number, *objective_values(t, fresh=selection.confirmed)) for t in selection.front
        ]
        files["pareto_front.csv"] = csv_text(front, ("trial", *subject.objective.values))
    return files
