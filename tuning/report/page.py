"""The page as a whole: one self-contained HTML file."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from tuning.analysis.costs import costs
from tuning.analysis.importances import MIN_TRIALS, REPEATS
from tuning.analysis.insights import bands, sentences
from tuning.analysis.outcome_table import FIGURES
from tuning.analysis.selection import objective_values
from tuning.compute.display import clock
from tuning.report import final_pictures, search_pictures
from tuning.report.subject import Subject, figure_words, hours, mean_words, number_words, percent
from tuning.spec.records import RecordedTrial, counted
from tuning.spec.space import describe

_DASH = "–"
_MULTIPLIER = "latent_multiplier"


def document(subject: Subject) -> str:
    study = subject.study
    multiplier = next((s for s in subject.searched if s.name == _MULTIPLIER), None)
    trained = {role: subject.trained(trial) for role, trial in subject.shown.items()}
    page = _environment().get_template("page.html")
    return page.render(
        s=subject,
        study=study,
        started=datetime.fromtimestamp(study.started / 1000, tz=UTC),
        ended=Counter(trial.status for trial in study.trials),
        longest=max((max(curve, default=0) for curve in study.curves.values()), default=0),
        final=trained.get("selected"),
        tested=_tested(subject),
        trained=trained,
        figures=tuple(FIGURES.values()),
        configuration=_configuration(subject),
        results=[(trial, _stages(subject, trial)) for trial in subject.shown.values()],
        insights=sentences(study.trials, subject.space, subject.selected),
        multiplier=multiplier,
        bands=bands(study.trials, _MULTIPLIER, multiplier.distribution) if multiplier else [],
        finals={role: final for role, final in trained.items() if final and final.curves},
        costs=costs(study.work),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tuning", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "percent": percent,
        "clock": lambda seconds: clock(seconds) if math.isfinite(seconds) else _DASH,
        "hours": hours,
        "number": number_words,
        "over_seeds": figure_words,
        "over_draws": mean_words,
        "median": statistics.median,
    }
    environment.tests["finite"] = math.isfinite
    environment.globals |= {
        "search_pictures": search_pictures,
        "final_pictures": final_pictures,
        "objective_values": objective_values,
        "MIN_TRIALS": MIN_TRIALS,
        "REPEATS": REPEATS,
    }
    return environment


def _tested(subject: Subject) -> tuple[str, str]:
    """Return the test figure that matters most, that of what was maximised, and its symbol."""
    name = subject.objective.metric.removeprefix("val_")
    name = name if name in FIGURES else "harmonic_mean"
    return f"test_{name}", FIGURES[name]


def _configuration(subject: Subject) -> dict[str, list[tuple[str, ...]]]:
    """Return rows of the selected and paper's configurations: searched or changed, and others."""
    if subject.selected is None:
        return {}
    own = subject.selected.hyperparameters
    published = subject.model.published(subject.study.dataset).as_dict()
    paper = subject.paper.hyperparameters if subject.paper else published
    ranges = {s.name: describe(s.distribution) for s in subject.searched}

    def row(name: str) -> tuple[str, ...]:
        values = (number_words(of.get(name, _DASH)) for of in (own, paper))
        return name, *values, ranges.get(name, "not searched")

    rows = [row(name) for name in own if name not in ranges]
    changed = [r for r in rows if r[0] in paper and r[1] != r[2]]
    return {
        "searched": [*map(row, ranges), *changed],
        "others": sorted(r[:3] for r in rows if r not in changed),
    }


def _stages(subject: Subject, trial: RecordedTrial) -> list[tuple[str, ...]]:
    """Return a row for each stage that a configuration reached."""

    def validated(metrics: Mapping[str, float]) -> dict[str, str]:
        return {name: percent(metrics.get(f"val_{name}", math.nan)) for name in FIGURES}

    stage = f"validation, {trial.planned_executions} draws, {counted(trial.best_epoch, 'epoch')}"
    rows = [(stage, *validated(trial.metrics).values())]
    if trial.confirmation:
        fresh, means = trial.confirmation.per_draw, validated(trial.confirmation.metrics)
        own = subject.objective.metric.removeprefix("val_")
        if own in means:
            means[own] = mean_words(list(fresh.values()))
        rows.append((f"{len(fresh)} fresh draws", *means.values()))
    if final := subject.trained(trial):
        tested = [figure_words(final.figures, f"test_{name}") for name in FIGURES]
        stage = f"test, {final.seeds} seeds, {counted(trial.final_epochs, 'epoch')}"
        rows.append((stage, *tested))
    return rows
