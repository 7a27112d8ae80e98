"""What a search prints at the end: a few lines of text, then the table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tuning.analysis.comparison import CONFIDENCE, paired_difference
from tuning.analysis.outcome_table import outcome_table
from tuning.analysis.selection import front_sentence, select
from tuning.cli.terminal import wrapped
from tuning.report.subject import number_words
from tuning.spec.choices import MIANET
from tuning.spec.records import RecordedTrial, counted
from tuning.tracking.model_registry import champion_of
from tuning.tracking.reading import FinalTraining, RecordedStudy

FIGURES: Mapping[str, str] = {"zsl_accuracy": "T1", "calibrated_harmonic_mean": "calibrated H"}
"""Test figures that a search is judged by → their symbols."""

_VERDICTS = {1: "higher", 0: "no significant difference", -1: "lower"}


def outcome(study: RecordedStudy, dataset: str, page: Path, model: str) -> str:
    """Return how a search ended, as lines of text.

    Args:
        study: The study, with its final trainings where there are any.
        dataset: Canonical name of its data set.
        page: The path of its report.
        model: What was searched; a name of ``MODELS``.
    """
    chosen, trials = select(study.trials, model=model), {t.run_id: t for t in study.trials}
    tested = {role: (trials[f.source_run_id], f.figures) for role, f in study.finals.items()}
    registered = champion_of(dataset) if "selected" in tested and model == MIANET else ""
    predict = f"python tuning/predict.py --model {registered} features.npy answers.csv"
    parts = {
        "found": _found(chosen.trial, study),
        "against": _against(study.finals),
        "front": chosen.front and front_sentence(chosen.front, fresh=chosen.confirmed),
        "model": registered,
        "report": str(page),
        "MLflow": study.links.comparison,
        "next": registered and predict,
    }
    lines = [line for label, text in parts.items() if text for line in _labelled(label, text)]
    if "selected" in tested:
        lines += ["", outcome_table(tested, seeds=study.finals["selected"].seeds)]
    return "\n".join(lines)


def _labelled(label: str, text: str) -> list[str]:
    line = f"{label:8}{text}"
    return wrapped(line, indent=8) if " " in text else [line]  # not an address or a path


def _found(trial: RecordedTrial, study: RecordedStudy) -> str:
    values = ", ".join(
        f"{name} {number_words(trial.hyperparameters[name])}" for name in study.space
    )
    epochs = counted(trial.final_epochs, "epoch")
    return f"trial {trial.number} of {len(study.trials)}, {epochs}: {values}"


def _against(finals: Mapping[str, FinalTraining]) -> str:
    """Say how the selected configuration's test figures differ from the paper's."""
    if "selected" not in finals:
        return ""
    if "paper" not in finals:
        return "the paper's configuration: it is the selected one or was not tried"
    selected, paper = finals["selected"].per_seed, finals["paper"].per_seed
    if not all(selected[figure].keys() & paper[figure].keys() for figure in FIGURES):
        return "the paper's configuration: no seed finished for both"
    differences = {s: paired_difference(selected[f], paper[f]) for f, s in FIGURES.items()}
    parts = [f"{s} {one.in_points} points, {_VERDICTS[one.sign]}" for s, one in differences.items()]
    return (
        f"the paper's configuration, on test images: {'; '.join(parts)} "
        f"({CONFIDENCE:.0%} intervals, {differences['calibrated H'].draws} seeds)"
    )
