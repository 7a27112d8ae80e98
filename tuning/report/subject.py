"""What a report is about: a recorded study, and what follows from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mianet.errors import InputError
from tuning.analysis.comparison import standard_error
from tuning.analysis.importances import importances
from tuning.analysis.selection import Selection, select
from tuning.report.scales import Choices, Linear, Logarithmic, Scale
from tuning.spec.choices import MIANET
from tuning.spec.models import MODELS
from tuning.spec.objectives import OBJECTIVES, Objective
from tuning.spec.records import RecordedTrial
from tuning.spec.space import describe
from tuning.tracking.recorded_studies import FinalTraining, RecordedStudy


@dataclass(frozen=True)
class Searched:
    """A hyperparameter that the study searched.

    Attributes:
        name: Its name.
        scale: Where its values lie; wide enough for all that were tried.
        words: Its range as a person writes it.
    """

    name: str
    scale: Scale
    words: str

    def value(self, trial: RecordedTrial) -> float | str:
        """Return a trial's value: a number, or a choice."""
        recorded = trial.hyperparameters[self.name]
        return recorded if isinstance(self.scale, Choices) else float(recorded)


class Subject:
    """A study, seen as a report sees it.

    Args:
        study: What is recorded.
        title: Of the data set.

    Attributes:
        selection: The choice among the trials; None where none can be chosen.
        nothing: Why not.
    """

    def __init__(self, study: RecordedStudy, title: str) -> None:
        self.study = study
        self.title = title
        self.selection: Selection | None = None
        self.nothing = ""
        try:
            self.selection = select(study.trials, model=self.model)
        except InputError as error:
            self.nothing = str(error)

    @property
    def model(self) -> str:
        """Return the name of the model that was searched."""
        return self.study.settings.get("model", MIANET)

    @property
    def model_title(self) -> str:
        """Return its name as it is printed."""
        return MODELS[self.model].title if self.model in MODELS else self.model

    @property
    def objective(self) -> Objective:
        """Return what was maximised."""
        return OBJECTIVES[self.study.objective]

    @property
    def symbol(self) -> str:
        """Return what the score is called."""
        return self.objective.symbol

    @property
    def axis(self) -> str:
        """Return what an axis of scores is called."""
        return f"{self.symbol} (%)"

    @property
    def executions(self) -> int:
        """Return how many draws a trial's score is a mean of."""
        return max((trial.planned_executions for trial in self.study.trials), default=0)

    @property
    def selected(self) -> RecordedTrial | None:
        """Return the selected trial."""
        return self.selection.trial if self.selection else None

    def is_selected(self, trial: RecordedTrial) -> bool:
        """Say whether a trial is the selected one."""
        return self.selected is not None and trial.run_id == self.selected.run_id

    @property
    def paper(self) -> RecordedTrial | None:
        """Return the trial of the paper's configuration, however it ended."""
        return next((trial for trial in self.study.trials if trial.is_paper), None)

    @cached_property
    def candidates(self) -> list[RecordedTrial]:
        """Return the trials that ended well, with all executions."""
        return [trial for trial in self.study.trials if trial.is_candidate]

    @cached_property
    def searched(self) -> tuple[Searched, ...]:
        """Return the searched hyperparameters that trials have a value of."""
        return tuple(
            _searched(name, distribution, self.tried(name))
            for name, distribution in self.study.space.items()
            if self.tried(name)
        )

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """Return the ranges of the searched hyperparameters that trials have a value of."""
        return {searched.name: self.study.space[searched.name] for searched in self.searched}

    @cached_property
    def importances(self) -> dict[str, list[float]]:
        """Return the share of each searched hyperparameter, see ``importances``."""
        trials = self.with_values(self.candidates)
        return importances(
            [
                {searched.name: searched.value(trial) for searched in self.searched}
                for trial in trials
            ],
            [trial.score for trial in trials],
            logarithmic=frozenset(
                one.name for one in self.searched if isinstance(one.scale, Logarithmic)
            ),
        )

    def tried(self, name: str) -> list[str]:
        """Return the different values of a hyperparameter, as they are recorded."""
        values = (trial.hyperparameters.get(name) for trial in self.study.trials)
        return list(dict.fromkeys(value for value in values if value is not None))

    def with_values(self, trials: Iterable[RecordedTrial]) -> list[RecordedTrial]:
        """Return the trials that have a value of every searched hyperparameter."""
        names = {searched.name for searched in self.searched}
        return [trial for trial in trials if names <= trial.hyperparameters.keys()]

    def trained(self, trial: RecordedTrial | None) -> FinalTraining | None:
        """Return the final training of a trial, if it had one."""
        if trial is None:
            return None
        finals = self.study.finals.values()
        return next((final for final in finals if final.source_run_id == trial.run_id), None)


def marks(subject: Subject, trial: RecordedTrial) -> str:
    """Return the style classes of a trial: how it ended, and whether it is a special one."""
    special = "selected" if trial == subject.selected else "paper" if trial.is_paper else ""
    return f"{trial.status} {special}".strip()


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
    """Return a hyperparameter's value as a person reads it."""
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return str(value)


def hours(value: float) -> str:
    """Return hours with as many digits as mean something."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def _searched(name: str, distribution: BaseDistribution, tried: Sequence[str]) -> Searched:
    """Return a searched hyperparameter; values that were tried outside its range widen its axis."""
    words = describe(distribution)
    if isinstance(distribution, CategoricalDistribution):
        names = [*map(str, distribution.choices), *tried]
        return Searched(name, Choices(tuple(dict.fromkeys(names))), words)
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # noqa: S101
    values = [distribution.low, distribution.high, *map(float, tried)]
    scale = Logarithmic if distribution.log and min(values) > 0 else Linear
    return Searched(name, scale(min(values), max(values)), words)
