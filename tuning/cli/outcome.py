"""What a search ends with on a terminal: a few lines for a person, then the table."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from tuning.analysis.comparison import CONFIDENCE, paired_difference
from tuning.analysis.selection import front_words, select
from tuning.cli.terminal import COLUMNS
from tuning.finals.table import table
from tuning.spec.choices import MIANET
from tuning.spec.records import RecordedTrial
from tuning.tracking.model_registry import champion_of
from tuning.tracking.recorded_studies import FinalTraining, RecordedStudy

FIGURES: Mapping[str, str] = {"zsl_accuracy": "T1", "calibrated_harmonic_mean": "calibrated H"}
"""Test figures that a search is judged by → their symbols."""

_LABEL = 8
_VERDICTS = {1: "higher", 0: "not told apart", -1: "lower"}


def outcome(study: RecordedStudy, dataset: str, page: Path, model: str) -> str:
    """Return how a search ended, as lines of text.

    Args:
        study: The study, with its final trainings where there are any.
        dataset: Canonical name of its data set.
        page: Its report.
        model: What was searched; a name of ``MODELS``.
    """
    chosen = select(study.trials, model=model)
    tested = study.finals.get("selected")
    parts = {"found": _found(chosen.trial, study), "against": _against(study.finals)}
    if chosen.front:
        parts["front"] = front_words(chosen.front, fresh=chosen.confirmed)
    registered = champion_of(dataset) if tested and model == MIANET else ""
    parts |= {"model": registered, "report": str(page), "MLflow": study.links.comparison}
    if registered:
        parts["next"] = f"python tuning/predict.py --model {registered} features.npy answers.csv"
    lines = [_wrapped(label, text) for label, text in parts.items() if text]
    return "\n".join([*lines, *(["", _table(study)] if tested else [])])


def _found(trial: RecordedTrial, study: RecordedStudy) -> str:
    values = ", ".join(f"{name} {_short(trial.hyperparameters[name])}" for name in study.space)
    return f"trial {trial.number} of {len(study.trials)}, {trial.best_epoch} epochs: {values}"


def _against(finals: Mapping[str, FinalTraining]) -> str:
    """Say how the selected configuration's test figures differ from the paper's."""
    if "selected" not in finals:
        return ""
    if "paper" not in finals:
        return "the paper's configuration: it is the selected one, or was not tried"
    selected, paper = finals["selected"].per_seed, finals["paper"].per_seed
    said, seeds = [], 0
    for figure, symbol in FIGURES.items():
        if not selected[figure].keys() & paper[figure].keys():
            return "the paper's configuration: no seed of both ended well"
        difference = paired_difference(selected[figure], paper[figure])
        seeds = difference.draws
        said.append(f"{symbol} {difference.in_points} points, {_VERDICTS[difference.sign]}")
    return (
        f"the paper's configuration, on test images: {'; '.join(said)} "
        f"({CONFIDENCE:.0%} intervals, {seeds} seeds)"
    )


def _table(study: RecordedStudy) -> str:
    trials = {trial.run_id: trial for trial in study.trials}
    tested = {
        role: (trials[final.source_run_id], final.figures) for role, final in study.finals.items()
    }
    return table(tested, seeds=study.finals["selected"].seeds)


def _short(value: str) -> str:
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value


def _wrapped(label: str, text: str) -> str:
    if " " not in text:  # an address or a path
        return f"{label:{_LABEL}}{text}"
    return textwrap.fill(
        f"{label:{_LABEL}}{text}",
        COLUMNS,
        subsequent_indent=" " * _LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    )
