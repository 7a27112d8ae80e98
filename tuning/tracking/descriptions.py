"""What a person reads on a study's, a trial's and a final training's page: Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuning.events.state import TrialState
from tuning.spec.objectives import OBJECTIVES
from tuning.spec.records import CONFIRMATION, StudyDescription
from tuning.spec.space import describe

_DIGEST_SHOWN = 12


def study_note(study: StudyDescription, result: str = "") -> str:
    """Describe a study, with its result once there is one.

    The result comes early: MLflow folds away all but the first lines.
    """
    data = {
        "name": study.dataset,
        **{name.replace("_", " "): f"{size:,}" for name, size in study.data_shape.items()},
        "source": study.data_source,
        "sha256": f"{study.data_digest[:_DIGEST_SHOWN]}…",
    }
    parts = [
        f"Hyperparameter search of MIANet on **{study.dataset_title}**, study `{study.name}`. "
        f"Every trial is a run nested in this one; its `score` is the best "
        f"`{OBJECTIVES[study.objective].metric}` (mean over the executions) of its epochs.",
        result,
        _section("Data", _items(data)),
        _section("Protocol", _items(flattened(study.protocol))),
        _section("Settings", _items(flattened(_settings(study)))),
    ]
    return "\n\n".join(filter(None, parts))


def study_result(
    counts: Mapping[str, int],
    duration_seconds: float,
    best: str,
    hyperparameters: Mapping[str, Any],
) -> str:
    """Describe how a study ended.

    Args:
        counts: Trials by status.
        duration_seconds: How long it took.
        best: What is said of the best trial; empty where there is none.
        hyperparameters: The best trial's, those that were searched.
    """
    trials = ", ".join(f"{count} {status}" for status, count in counts.items())
    lines = [f"{sum(counts.values())} trials ({trials}) in {_duration(duration_seconds)}."]
    if best:
        lines += [f"Best: {best}", _items(hyperparameters)]
    return _section("Result", "\n\n".join(lines))


def trial_note(
    study: StudyDescription, number: int, origin: str, hyperparameters: Mapping[str, Any]
) -> str:
    """Describe a trial when it starts.

    Args:
        study: Its study.
        number: Its number.
        origin: Who proposed it.
        hyperparameters: Those to name.
    """
    return (
        f"Trial {number} of study `{study.name}` on **{study.dataset_title}**, proposed by "
        f"`{origin}`.\n\n{_items(hyperparameters)}"
    )


def _final_note(title: str, role: str, epochs: int, seeds: Sequence[int]) -> str:
    return (
        f"Final training of the **{role}** configuration on **{title}**: {epochs} epochs on all of "
        f"trainval, {len(seeds)} seeds ({', '.join(map(str, seeds))}), the test parts scored once "
        "a seed. `test_*` has one value a seed (step = its position); `_mean` and `_sd` are over "
        "the seeds."
    )


def _confirmation_note(title: str, role: str, epochs: int, draws: Sequence[int]) -> str:
    return (
        f"Confirmation of **{role}** on **{title}**: {epochs} epochs on {len(draws)} fresh draws "
        f"(executions {draws[0]} to {draws[-1]}), which had no part in choosing it. `val_*` has "
        "one value a draw (step = its position); `_mean` and `_sd` are over the draws."
    )


NOTES = {"final": _final_note, CONFIRMATION: _confirmation_note}
"""Kind of run → what describes it, given data set, role, epochs, and seeds or draws."""


def score_text(metric: str, trial: TrialState) -> str:
    """Describe a trial's score, the best value of the metric."""
    return f"{metric} {100 * trial.score:.2f}% at epoch {trial.best_epoch}"


def study_params(study: StudyDescription) -> dict[str, Any]:
    """Return what is recorded of a study's settings, by name."""
    return flattened(
        {
            "dataset": study.dataset,
            "protocol": study.protocol,
            "objective": study.objective,
            "searched": ", ".join(study.space),
            **_settings(study),
        }
    )


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _settings(study: StudyDescription) -> dict[str, Any]:
    space = {name: describe(distribution) for name, distribution in study.space.items()}
    return {**study.settings, "space": space}


def _section(title: str, text: str) -> str:
    return f"### {title}\n\n{text}"


def _items(values: Mapping[str, Any]) -> str:
    # A list, since MLflow shows a table's columns without any space between them.
    texts = {n: f"{v:.6g}" if isinstance(v, float) else str(v) for n, v in values.items()}
    quoted = {name: text.replace("`", "'").replace("\n", " ") for name, text in texts.items()}
    return "\n".join(f"- {name}: `{text}`" for name, text in quoted.items())


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"
