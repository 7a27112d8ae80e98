"""What a report is about: a recorded study, and what follows from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from mianet.errors import InputError
from tuning.analysis.comparison import standard_error
from tuning.analysis.importances import importances
from tuning.analysis.selection import Selection, select
from tuning.report.charts import Scale
from tuning.spec.models import MODELS
from tuning.spec.objectives import OBJECTIVES
from tuning.spec.records import RecordedTrial
from tuning.tracking.reading import FinalTraining, RecordedStudy


@dataclass(frozen=True)
class Searched:
    """A hyperparameter that the study searched."""

    name: str
    distribution: BaseDistribution
    tried: Sequence[str]  # the values of the trials, as recorded

    @cached_property
    def scale(self) -> Scale:
        """Return where its values lie; wide enough for all that were tried."""
        where = self.distribution
        if isinstance(where, FloatDistribution | IntDistribution):
            values = [where.low, where.high, *map(float, self.tried)]
            return Scale(min(values), max(values), where.log and min(values) > 0)
        choices = [*map(str, getattr(where, "choices", ())), *self.tried]
        return Scale(choices=tuple(dict.fromkeys(choices)))

    def value(self, trial: RecordedTrial) -> float | str:
        recorded = trial.hyperparameters[self.name]
        return recorded if self.scale.choices else float(recorded)


class Subject:
    """A study, seen as a report sees it."""

    def __init__(self, study: RecordedStudy, title: str) -> None:
        self.study = study
        self.title = title
        self.model = MODELS[study.model]
        self.objective = OBJECTIVES[study.objective]
        self.symbol = self.objective.symbol
        self.axis = f"{self.symbol} (%)"
        self.executions = max((t.planned_executions for t in study.trials), default=0)
        # The paper's trial, however it ended.
        self.paper = next((trial for trial in study.trials if trial.is_paper), None)
        self.selection: Selection | None = None  # None if nothing can be chosen, …
        self.no_selection = ""  # … and why not
        try:
            self.selection = select(study.trials, model=study.model)
        except InputError as error:
            self.no_selection = str(error)
        self.selected = self.selection.trial if self.selection else None

    @property
    def warnings(self) -> list[str]:
        """Return the warnings given when the features were made, each once."""
        settings = self.study.settings.items()
        return list(dict.fromkeys(text for name, text in settings if name.endswith(".warning")))

    def is_selected(self, trial: RecordedTrial) -> bool:
        return self.selected is not None and trial.run_id == self.selected.run_id

    def look(self, trial: RecordedTrial) -> str:
        """Return the style classes of a trial: how it ended, and whether it is special."""
        special = "selected" if self.is_selected(trial) else "paper" if trial.is_paper else ""
        return f"{trial.status} {special}".strip()

    @cached_property
    def searched(self) -> tuple[Searched, ...]:
        """Return the searched hyperparameters that trials have a value for."""
        trials = [trial.hyperparameters for trial in self.study.trials]
        return tuple(
            Searched(name, distribution, tried)
            for name, distribution in self.study.space.items()
            if (tried := [of[name] for of in trials if name in of])
        )

    @property
    def space(self) -> dict[str, BaseDistribution]:
        return {searched.name: searched.distribution for searched in self.searched}

    @cached_property
    def complete(self) -> list[RecordedTrial]:
        """Return the trials that ended well, with all executions and every searched value."""
        names = self.space.keys()
        return [
            t for t in self.study.trials if t.is_candidate and names <= t.hyperparameters.keys()
        ]

    @cached_property
    def importances(self) -> dict[str, list[float]]:
        """Return the share of each searched hyperparameter, see ``importances``."""
        return importances(
            [{s.name: s.value(trial) for s in self.searched} for trial in self.complete],
            [trial.score for trial in self.complete],
            logarithmic=frozenset(s.name for s in self.searched if s.scale.log),
        )

    @property
    def shown(self) -> dict[str, RecordedTrial]:
        """Return the trials whose results are shown, the paper's and the selected one."""
        shown = {} if self.selected and self.selected.is_paper else {"paper": self.paper}
        shown["selected"] = self.selected
        return {role: trial for role, trial in shown.items() if trial}

    def trained(self, trial: RecordedTrial) -> FinalTraining | None:
        """Return the final training of a trial, if it had one."""
        finals = self.study.finals.values()
        return next((final for final in finals if final.source_run_id == trial.run_id), None)


def percent(value: float, digits: int = 1) -> str:
    """Return a fraction in percent, or a dash where there is none."""
    return f"{100 * value:.{digits}f}" if math.isfinite(value) else "–"


def mean_words(values: Sequence[float]) -> str:
    """Return the mean with its standard error, in percent."""
    error = f" ± {percent(standard_error(values))}" if len(values) > 1 else ""
    return percent(statistics.fmean(values)) + error


def figure_words(figures: Mapping[str, float], name: str) -> str:
    """Return mean and standard deviation over seeds of a recorded figure, in percent."""
    mean, deviation = figures.get(f"{name}_mean", math.nan), figures.get(f"{name}_sd", math.nan)
    return percent(mean) + (f" ± {percent(deviation)}" if math.isfinite(deviation) else "")


def number_words(value: float | str) -> str:
    """Return a hyperparameter's value in readable form."""
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return str(value)


def hours(value: float) -> str:
    """Return hours with as many digits as are meaningful."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:,.0f}"
