"""What a study is, and what is read back about its trials: plain records without MLflow."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution

from tuning.spec.objectives import CALIBRATION, DEFAULT_OBJECTIVE, OBJECTIVES

STATUSES = ("finished", "stopped_early", "infeasible", "failed", "interrupted")
"""How a trial can end. A trial that has not ended has the status ``running``."""

SELECTABLE = frozenset({"finished", "stopped_early"})
"""The statuses with which a trial's score counts."""

BEST_PREFIX = "best_"
"""Prefix of the name of a validation accuracy at the best epoch."""

LOG10_PREFIX = "log10."
"""Prefix of the metric of a hyperparameter that is searched on a log scale: MLflow's charts have
linear axes."""

# Tags of runs.
SPACE_TAG = "space"  # of a study: its search space, see ``space_to_json``
OBJECTIVE_TAG = "objective"  # what a run's score measures
EXECUTIONS_TAG = "executions"  # of a trial: JSON, the objective of each execution at its best epoch
FRONT_TAG = "pareto_front"  # of a study of several objectives: the trials of its Pareto front
NOTE_TAG = "mlflow.note.content"  # Markdown that MLflow shows on a run's page

PAPER = "paper"
"""The origin of a trial of the paper's configuration."""

CONFIRMATION = "confirmation"
"""The kind of run that records a configuration on fresh draws."""

COMPUTE_SECONDS = "compute_seconds"
"""Metric: seconds that a run's executions, or seeds, were at work, added up."""

MAX_LISTED = 12
"""How many names an error message lists before it only counts the rest."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is known about a study, final training or confirmation before anything is computed."""

    dataset: str  # canonical name of the data set, such as ``awa1`` or ``synthetic:apy``
    dataset_title: str  # the name as it is printed, such as ``AWA1``
    data_digest: str  # digest (sha256, hex) of the data set's source
    data_source: str  # path of the source, or ``embedded``
    # sizes by name; ``rows`` and ``feature_dim`` describe the feature matrix
    data_shape: Mapping[str, int]
    # what must agree for the scores of two trials to be comparable. ``executions`` is the number of
    # executions that make a trial complete.
    protocol: Mapping[str, Any]
    # what else affects the outcome: sampler, scheduler, budget, resources
    settings: Mapping[str, Any]
    objective: str = DEFAULT_OBJECTIVE  # a name of ``OBJECTIVES``


@dataclass(frozen=True, kw_only=True)
class StudyDescription(Description):
    """A study: its name, and where each searched hyperparameter's values are drawn from."""

    name: str
    space: Mapping[str, BaseDistribution] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FinalDescription(Description):
    """A final training, or a confirmation."""

    role: str  # which configuration it is: ``selected``, ``paper``, or the trial's name
    kind: str = "final"  # ``final``, or ``confirmation``
    hyperparameters: Mapping[str, Any]
    epochs: int  # how long each seed, or draw, is trained
    seeds: Sequence[int]  # one training each; for a confirmation, the numbers of its draws
    study: str = ""  # name of the study that the configuration is from
    study_run_id: str = ""  # that study's run, in which this is nested; empty for none
    source_run_id: str = ""  # the trial's run that the configuration is from; empty for none
    device: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind} ({self.role})"


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """A trial's configuration on draws that had no part in its selection."""

    # execution number → the objective at the trial's best epoch
    per_draw: Mapping[int, float]
    # mean of every validation accuracy over the draws, named as in the trial
    metrics: Mapping[str, float]

    @property
    def score(self) -> float:
        """Return the mean of the objective over the draws."""
        return statistics.fmean(self.per_draw.values())

    @property
    def calibration(self) -> float:
        """Return the constant that maximises the mean calibrated H over the draws."""
        return self.metrics[CALIBRATION]


@dataclass(frozen=True, kw_only=True)
class RecordedTrial:
    """One trial as the tracking store has it."""

    run_id: str
    study: str
    study_run_id: str
    study_started: int  # when its study started, in milliseconds since 1970
    number: int
    status: str  # one of ``STATUSES``, or ``running``
    origin: str
    hyperparameters: Mapping[str, str]  # all of them, as strings (a tracking store keeps no types)
    score: float  # best mean of the objective over its epochs; NaN if it has none
    best_epoch: int  # the epoch (from 1) of that best mean; 0 if it has none
    final_epochs: int  # for how many epochs to train on all of trainval; 0 if unknown
    executions: int
    planned_executions: int  # executions that make it complete
    protocol: Mapping[str, Any]
    data_digest: str
    started: int  # when it started, in milliseconds since 1970
    # validation accuracies at the best epoch, by name
    metrics: Mapping[str, float] = field(default_factory=dict)
    # execution number → the objective at the best epoch
    per_execution: Mapping[int, float] = field(default_factory=dict)
    # its newest recorded results on fresh draws; None if there are none
    confirmation: Confirmation | None = None
    reason: str = ""
    epochs: int = 0
    seconds: float = math.nan  # how long it took; NaN while it runs
    objective: str = DEFAULT_OBJECTIVE

    @property
    def is_paper(self) -> bool:
        return self.origin == PAPER

    @property
    def model(self) -> str:
        """Return the name of its model; ``unknown`` if it ended before that was recorded."""
        return self.hyperparameters.get("model", "unknown")

    @property
    def calibration(self) -> float:
        """Return the constant to subtract from seen classes' scores, chosen on validation draws.

        For a confirmed trial it comes from the fresh draws, of which there are more.
        """
        if self.confirmation:
            return self.confirmation.calibration
        return self.metrics.get(CALIBRATION, 0.0)

    @property
    def fresh_draws(self) -> Mapping[int, float]:
        """Return draw number → the objective, for the draws that it was confirmed on."""
        return self.confirmation.per_draw if self.confirmation else {}

    @property
    def all_draws(self) -> Mapping[int, float]:
        """Return execution number → the objective, for searched and fresh draws alike."""
        return {**self.per_execution, **self.fresh_draws}

    @property
    def is_candidate(self) -> bool:
        """Say whether a search may choose this trial."""
        return is_candidate(self.status, self.score, self.executions, self.planned_executions)

    @property
    def symbol(self) -> str:
        """Return the symbol of its score in tables and text: ``H``, for instance."""
        return OBJECTIVES[self.objective].symbol

    @property
    def protocol_key(self) -> str:
        return protocol_key(self.protocol)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one run computed, to find its cost."""

    kind: str  # ``trial``, ``confirmation`` or ``final``
    seconds: float  # all its executions or seeds added up; NaN if not recorded
    cpus: float  # cores that it had during that time
    gpus: float  # maybe a fraction of one


def per_execution(metrics: Mapping[str, float], objective: str) -> dict[int, float]:
    """Return execution number → the objective, if it is finite."""
    start = OBJECTIVES[objective].execution_prefix
    return {
        int(name.removeprefix(start)): value
        for name, value in metrics.items()
        if name.startswith(start) and math.isfinite(value)
    }


def means(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return an epoch's figures without those of single executions."""
    return {name: value for name, value in metrics.items() if "_execution_" not in name}


def best_figures(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return what is recorded for a trial's best epoch: the means of all validation accuracies."""
    return {
        f"{BEST_PREFIX}{name}": value
        for name, value in means(metrics).items()
        if name.startswith("val_")
    }


def is_candidate(status: str, score: float, executions: int, planned_executions: int) -> bool:
    """Say whether a search may choose a trial: ended well, with a score of all its executions.

    Args:
        status: One of ``STATUSES``, or ``running``.
        score: Its best mean; NaN if it has none.
        executions: Executions that have a recorded objective.
        planned_executions: Executions that make it complete.
    """
    return status in SELECTABLE and math.isfinite(score) and executions >= planned_executions


def protocol_key(protocol: Mapping[str, Any]) -> str:
    """Return a short key (12 hex digits) that is equal for equal protocols, in any order."""
    return hashlib.sha256(canonical_json(protocol).encode()).hexdigest()[:12]


def canonical_json(values: Mapping[str, Any]) -> str:
    """Return JSON that is equal for equal mappings; other types are written as strings."""
    return json.dumps(dict(values), sort_keys=True, default=str)


def mean_and_sd(per_seed: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return ``<name>_mean`` and, from two seeds on, the sample standard deviation ``<name>_sd``.

    All seeds have metrics of the same names.
    """
    summary: dict[str, float] = {}
    for name in per_seed[0] if per_seed else ():
        values = [metrics[name] for metrics in per_seed]
        summary[f"{name}_mean"] = statistics.fmean(values)
        if len(values) > 1 and all(map(math.isfinite, values)):
            summary[f"{name}_sd"] = statistics.stdev(values)
    return summary


def counted(count: int, noun: str) -> str:
    """Return ``1 epoch``, ``2 epochs``."""
    return f"{count} {noun}{'s' * (count != 1)}"


def listed(names: Sequence[str]) -> str:
    """Return names for an error message; only the first few if there are many."""
    shown = ", ".join(names[:MAX_LISTED])
    more = len(names) - MAX_LISTED
    return f"{shown} and {more} more" if more > 0 else shown
