"""What a person reads on a study's, a trial's and a final training's page: Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuning.spec.objectives import OBJECTIVES
from tuning.spec.records import CONFIRMATION, StudyDescription
from tuning.spec.space import describe

_DIGEST_SHOWN = 12


def study_note(study: StudyDescription, result: str = "") -> str:
    """Describe a study, with its result once there is one.

    The result comes early: MLflow folds away all but the first lines.
    """
    return "\n\n".join(
        [
            f"Hyperparameter search of MIANet on **{study.dataset_title}**, study `{study.name}`. "
            f"Every trial is a run nested in this one; its `score` is the best "
            f"`{OBJECTIVES[study.objective].metric}` (mean over the executions) of its epochs.",
            *([result] if result else []),
            _section("Data", _data(study)),
            _section("Protocol", _items(flattened(study.protocol))),
            _section("Settings", _items(flattened(_settings(study)))),
        ]
    )


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
    """Describe a trial when it starts."""
    searched = {name: hyperparameters[name] for name in study.space if name in hyperparameters}
    return "\n\n".join(
        [
            f"Trial {number} of study `{study.name}` on **{study.dataset_title}**, proposed by "
            f"`{origin}`.",
            _items(searched or hyperparameters),
        ]
    )


def final_note(title: str, role: str, epochs: int, seeds: Sequence[int]) -> str:
    """Describe a final training."""
    return (
        f"Final training of the **{role}** configuration on **{title}**: {epochs} epochs on all of "
        f"trainval, {len(seeds)} seeds ({', '.join(map(str, seeds))}), the test parts scored once "
        "a seed. `test_*` has one value a seed (step = its position); `_mean` and `_sd` are over "
        "the seeds."
    )


def confirmation_note(title: str, role: str, epochs: int, draws: Sequence[int]) -> str:
    """Describe a confirmation."""
    return (
        f"Confirmation of **{role}** on **{title}**: {epochs} epochs on {len(draws)} fresh draws "
        f"(executions {draws[0]} to {draws[-1]}), which had no part in choosing it. `val_*` has "
        "one value a draw (step = its position); `_mean` and `_sd` are over the draws."
    )


NOTES = {"final": final_note, CONFIRMATION: confirmation_note}
"""Kind of run → what describes it."""


def score_line(name: str, metric: str, score: float, best_epoch: int) -> str:
    """Describe the best trial in one line; the score, best value of the metric, is a fraction."""
    return f"**{name}**, {metric} {100 * score:.2f}% at epoch {best_epoch}"


def outcome_line(
    status: str, metric: str, score: float, best_epoch: int, epochs: int, reason: str
) -> str:
    """Describe in one line how a trial ended; the score, best of the metric, is a fraction."""
    line = f"{status.replace('_', ' ').capitalize()} after {epochs} epochs"
    if best_epoch:
        line += f"; best {metric} {100 * score:.2f}% at epoch {best_epoch}"
    return f"{line}. {reason}".strip()


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


def _data(study: StudyDescription) -> str:
    return _items(
        {
            "name": study.dataset,
            **{name.replace("_", " "): f"{size:,}" for name, size in study.data_shape.items()},
            "source": study.data_source,
            "sha256": f"{study.data_digest[:_DIGEST_SHOWN]}…",
        }
    )


def _section(title: str, text: str) -> str:
    return f"### {title}\n\n{text}"


def _items(values: Mapping[str, Any]) -> str:
    # A list, since MLflow shows a table's columns without any space between them.
    return "\n".join(f"- {name}: `{_short(value)}`" for name, value in values.items())


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("`", "'").replace("\n", " ")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"
