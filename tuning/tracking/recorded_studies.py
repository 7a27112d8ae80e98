"""Read back from MLflow everything that is recorded of one study."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from optuna.distributions import BaseDistribution

from mianet.calibration import SeenUnseenCurve
from mianet.errors import InputError
from tuning.analysis.outcome_table import FIGURES
from tuning.spec.final_files import (
    CONFUSION_FILE,
    CURVE_FILE,
    Confusion,
    read_confusion,
    read_curves,
)
from tuning.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES
from tuning.spec.records import COMPUTE_SECONDS, CONFIRMATION, SPACE_TAG, RecordedTrial, Work
from tuning.spec.space import space_from_json
from tuning.tracking.experiments import location_of, refused_by
from tuning.tracking.recorded_trials import (
    check_named,
    confirmations_of,
    experiment_of,
    objective_of,
    runs_of,
    trial_of,
)
from tuning.tracking.store import open_store
from tuning.tracking.views import Links, links_to

T = TypeVar("T")

_AT_ONCE = 8
"""Requests at once: a server answers each in tens of milliseconds, and there is one a trial."""


@dataclass(frozen=True, kw_only=True)
class FinalTraining:
    """A final training as the tracking store has it.

    Attributes:
        role: ``selected`` or ``paper``.
        status: How it ended.
        reason: Why, in words; may be empty.
        source_run_id: The trial that its configuration is from.
        seeds: How many trainings it has.
        figures: ``test_<figure>_mean`` and ``_sd`` over the seeds.
        constant: What was taken off seen classes' scores for the ``calibrated_`` figures; NaN
            where that was not asked for.
        confusion: Which classes are taken for which; None where it is not recorded.
        curves: Seed → tr and ts at every constant; empty where that is not recorded.
        per_seed: Figure → position of the seed → its value; those that ended well.
    """

    role: str
    status: str
    reason: str
    source_run_id: str
    seeds: int
    figures: Mapping[str, float]
    constant: float
    confusion: Confusion | None
    curves: Mapping[int, SeenUnseenCurve]
    per_seed: Mapping[str, Mapping[int, float]]


@dataclass(frozen=True, kw_only=True)
class RecordedStudy:
    """A study as the tracking store has it.

    Attributes:
        name: What a person calls it.
        run_id: Its run.
        location: Where a person finds that: an address, or the command that shows it.
        links: Addresses of its pages in MLflow.
        status: How it ended, or ``running``.
        started: When it started, in milliseconds since 1970.
        seconds: How long it was searched; NaN while it runs.
        settings: What it was searched with, as strings.
        space: Searched hyperparameter → where its values were drawn from.
        trials: By number.
        curves: Number of the trial → epoch → the objective, mean over the executions.
        objective: What its scores are of; a name of ``OBJECTIVES``.
        finals: Role → its newest final training.
        work: All that was computed for it.
    """

    name: str
    run_id: str
    location: str
    links: Links
    status: str
    started: int
    seconds: float
    settings: Mapping[str, str]
    space: Mapping[str, BaseDistribution]
    trials: Sequence[RecordedTrial]
    curves: Mapping[int, Mapping[int, float]]
    finals: Mapping[str, FinalTraining]
    work: Sequence[Work]
    objective: str = DEFAULT_OBJECTIVE


def read_study(tracking_uri: str, dataset: str, study: str | None = None) -> RecordedStudy:
    """Return what is recorded of a study.

    Args:
        tracking_uri: The store that it was recorded to.
        dataset: Canonical name of its data set.
        study: Its name; None for the newest of the data set.

    Raises:
        InputError: There is no such store, experiment or study; names those that there are.
    """
    store = open_store(tracking_uri, must_exist=True)
    try:
        experiment = experiment_of(store, dataset)
        studies = {run.info.run_id: run for run in runs_of(store, experiment, "study")}
        check_named(store, study, studies)
        chosen = [r for r in studies.values() if study in (None, r.data.tags["study"])]
        if not chosen:
            raise InputError(
                f"a study of {dataset} must be recorded to report on, but there is none; run a "
                "search first"
            )
        run = max(chosen, key=lambda r: r.info.start_time)
        nested = list(runs_of(store, experiment, parent=run.info.run_id))
        where = location_of(store, experiment, run.info.run_id)
        links = links_to(store, experiment, run.data.tags["study"])
        return _study(store.client, run, nested, where, links)
    except (MlflowException, OSError) as error:
        raise refused_by(store, "a search for runs", error) from error


def _study(
    client: MlflowClient, run: Run, nested: Sequence[Run], location: str, links: Links
) -> RecordedStudy:
    kinds = {kind: _of_kind(nested, kind) for kind in ("trial", CONFIRMATION, "final")}
    confirmations = confirmations_of(kinds[CONFIRMATION])
    trials = [
        replace(trial_of(one, run), confirmation=confirmations.get(one.info.run_id))
        for one in kinds["trial"]
    ]
    trials.sort(key=lambda trial: trial.number)
    # The newest that has figures counts, else the newest.
    tested = sorted(kinds["final"], key=lambda one: "test_harmonic_mean_mean" in one.data.metrics)
    finals = {one.data.tags["role"]: one for one in tested}
    return RecordedStudy(
        name=run.data.tags["study"],
        run_id=run.info.run_id,
        location=location,
        links=links,
        status=run.data.tags["status"],
        started=run.info.start_time,
        seconds=run.data.metrics.get("duration_seconds", math.nan),
        settings=dict(run.data.params),
        space=space_from_json(run.data.tags[SPACE_TAG]),
        trials=trials,
        curves=_curves(client, trials),
        finals={role: _final(client, one) for role, one in finals.items()},
        work=[_work(one, run) for one in nested if one.data.tags["kind"] in kinds],
        objective=objective_of(run),
    )


def _of_kind(runs: Sequence[Run], kind: str) -> list[Run]:
    """Return the runs of a kind, the oldest first."""
    chosen = [run for run in runs if run.data.tags["kind"] == kind]
    return sorted(chosen, key=lambda run: run.info.start_time)


def _curves(
    client: MlflowClient, trials: Sequence[RecordedTrial]
) -> dict[int, Mapping[int, float]]:
    def curve(trial: RecordedTrial) -> dict[int, float]:
        return _history(client, trial.run_id, OBJECTIVES[trial.objective].metric)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return dict(zip((t.number for t in trials), threads.map(curve, trials), strict=True))


def _history(client: MlflowClient, run_id: str, metric: str) -> dict[int, float]:
    """Return step → value of a metric."""
    history = client.get_metric_history(run_id, metric)
    return {point.step: point.value for point in sorted(history, key=lambda p: p.step)}


def _final(client: MlflowClient, run: Run) -> FinalTraining:
    tags, params = run.data.tags, run.data.params
    return FinalTraining(
        role=tags["role"],
        status=tags["status"],
        reason=tags.get("reason", ""),
        source_run_id=tags.get("source_run_id", ""),
        seeds=len(params["seeds"].split(",")),
        figures={
            name: v for name, v in run.data.metrics.items() if name.endswith(("_mean", "_sd"))
        },
        constant=float(params.get("calibration", "nan")),
        confusion=_file(client, run, CONFUSION_FILE, read_confusion),
        curves=_file(client, run, CURVE_FILE, read_curves) or {},
        per_seed={
            figure: _history(client, run.info.run_id, f"test_{figure}") for figure in FIGURES
        },
    )


def _file(client: MlflowClient, run: Run, name: str, read: Callable[[str], T]) -> T | None:
    """Return what a run's artifact says; None where there is none, as of earlier versions."""
    if name not in {file.path for file in client.list_artifacts(run.info.run_id)}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = client.download_artifacts(run.info.run_id, name, folder)
        with Path(path).open(encoding="utf-8", newline="") as file:
            return read(file.read())


def _work(run: Run, study: Run) -> Work:
    """Return what a run computed; a trial's resources are its study's."""
    kind, metrics, params = run.data.tags["kind"], run.data.metrics, run.data.params
    is_trial = kind == "trial"
    held = study.data.params if is_trial else params
    cpus, gpus = (held.get(f"{x}_per_trial" if is_trial else x, "0") for x in ("cpus", "gpus"))
    return Work(
        kind=kind,
        name=run.info.run_name,
        seconds=metrics.get("duration_seconds" if is_trial else COMPUTE_SECONDS, math.nan),
        cpus=float(cpus),
        gpus=float(gpus),
    )
