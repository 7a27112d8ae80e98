"""The Markdown shown on the pages of studies, trials and final trainings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuning.events.state import TrialState
from tuning.spec.models import MODELS
from tuning.spec.objectives import OBJECTIVES
from tuning.spec.records import CONFIRMATION, FinalDescription, StudyDescription, counted
from tuning.spec.space import describe

_DIGEST_SHOWN = 12


def study_note(study: StudyDescription, result: str = "") -> str:
    """Describe a study, its result near the top: MLflow collapses all but the first lines."""
    data = {
        "name": study.dataset,
        **{name.replace("_", " "): f"{size:,}" for name, size in study.data_shape.items()},
        "source": study.data_source,
        "sha256": f"{study.data_digest[:_DIGEST_SHOWN]}…",
    }
    model = MODELS[study.settings["model"]].title
    parts = [
        f"Hyperparameter search of {model} on **{study.dataset_title}**, study `{study.name}`. "
        f"Every trial is a run nested in this one; its `score` is the best "
        f"`{OBJECTIVES[study.objective].metric}` (mean over the executions) of its epochs.",
        result and _section("Result", result),
        _section("Data", items(data)),
        _section("Protocol", items(flattened(study.protocol))),
        _section("Settings", items(flattened(_settings(study)))),
    ]
    return "\n\n".join(filter(None, parts))


_NOTES = {
    "final": "Final training of the **{0.role}** configuration on **{0.dataset_title}**: "
    "{epochs} on all of trainval, {seed_count} ({seeds}), the test parts scored once per seed. "
    "`test_*` has one value per seed (step = its position); `_mean` and `_sd` are over the "
    "seeds.",
    CONFIRMATION: "Confirmation of **{0.role}** on **{0.dataset_title}**: {epochs} on "
    "{draw_count} (executions {0.seeds[0]} to {last}), which had no part in choosing it. "
    "`val_*` has one value per draw (step = its position); `_mean` and `_sd` are over the draws.",
}


def final_note(about: FinalDescription) -> str:
    return _NOTES[about.kind].format(
        about,
        epochs=counted(about.epochs, "epoch"),
        seed_count=counted(len(about.seeds), "seed"),
        draw_count=counted(len(about.seeds), "fresh draw"),
        seeds=", ".join(map(str, about.seeds)),
        last=about.seeds[-1],
    )


def score_text(metric: str, trial: TrialState) -> str:
    """Describe a trial's score, the best value of the metric."""
    return f"{metric} {100 * trial.score:.2f}% at epoch {trial.best_epoch}"


def study_params(study: StudyDescription) -> dict[str, Any]:
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
    """Flatten nested mappings into one with dotted names."""
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


def items(values: Mapping[str, Any]) -> str:
    """Return values as a Markdown list."""
    # Not a table: MLflow puts no space between its columns.
    texts = {n: f"{v:.6g}" if isinstance(v, float) else str(v) for n, v in values.items()}
    quoted = {name: text.replace("`", "'").replace("\n", " ") for name, text in texts.items()}
    return "\n".join(f"- {name}: `{text}`" for name, text in quoted.items())


def duration(seconds: float) -> str:
    """Return a time in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"
