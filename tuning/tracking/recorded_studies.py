"""Read back from MLflow everything that is recorded of one study."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mlflow.entities import Run
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
from tuning.spec.records import COMPUTE_SECONDS, SPACE_TAG, RecordedTrial, Work
from tuning.spec.space import space_from_json
from tuning.tracking.experiments import Links, links_to, location_of
from tuning.tracking.recorded_trials import (
    SEARCH,
    experiment_of,
    nested_in,
    objective_of,
    studies_named,
    trials_of,
)
from tuning.tracking.store import open_store

T = TypeVar("T")

_AT_ONCE = 8
"""Requests at once: a server answers each in tens of milliseconds, and there is one a trial."""


@dataclass(frozen=True, kw_only=True)
class FinalTraining:
    """A final training as the tracking store has it."""

    role: str  # ``selected`` or ``paper``
    status: str
    reason: str
    source_run_id: str
    seeds: int
    figures: Mapping[str, float]  # ``test_<figure>_mean`` and ``_sd`` over the seeds
    constant: float  # taken off seen classes' scores when calibrated; NaN for nothing
    confusion: Confusion | None  # None where it is not recorded
    curves: Mapping[int, SeenUnseenCurve]  # by seed; empty where they are not recorded
    per_seed: Mapping[str, Mapping[int, float]]  # figure → position of the seed → value


@dataclass(frozen=True, kw_only=True)
class RecordedStudy:
    """A study as the tracking store has it."""

    name: str
    run_id: str
    location: str  # of its run: an address, or the command that shows it
    links: Links
    status: str
    started: int  # milliseconds since 1970
    seconds: float  # of search; NaN while it runs
    settings: Mapping[str, str]
    space: Mapping[str, BaseDistribution]
    trials: Sequence[RecordedTrial]
    curves: Mapping[int, Mapping[int, float]]  # trial → epoch → the objective
    finals: Mapping[str, FinalTraining]  # role → its newest final training
    work: Sequence[Work]
    objective: str = DEFAULT_OBJECTIVE


def read_study(tracking_uri: str, dataset: str, study: str | None = None) -> RecordedStudy:
    """Return what is recorded of a study.

    Args:
        tracking_uri: The store that it was recorded to.
        dataset: Canonical name of its data set.
        study: Its name; None for the newest of the data set.
    """
    store = open_store(tracking_uri, must_exist=True)
    with store.asked(SEARCH, seconds=None):
        experiment = experiment_of(store, dataset)
        studies = studies_named(store, experiment, study)
        if not studies:
            raise InputError(
                f"a study of {dataset} must be recorded to report on, but there is none; run a "
                "search first"
            )
        run = max(studies, key=lambda r: r.info.start_time)
        nested, name, client = nested_in(store, run), run.data.tags["study"], store.client
        trials = trials_of(run, nested)
        # The newest that has figures counts, else the newest.
        tested = sorted(nested, key=lambda one: "test_harmonic_mean_mean" in one.data.metrics)
        finals = {r.data.tags["role"]: r for r in tested if r.data.tags["kind"] == "final"}
        return RecordedStudy(
            name=name,
            run_id=run.info.run_id,
            location=location_of(store, experiment, run.info.run_id),
            links=links_to(store, experiment, name),
            status=run.data.tags["status"],
            seconds=run.data.metrics.get("duration_seconds", math.nan),
            started=run.info.start_time,
            settings=dict(run.data.params),
            space=space_from_json(run.data.tags[SPACE_TAG]),
            trials=trials,
            curves=_curves(client, trials),
            finals={role: _final(client, one) for role, one in finals.items()},
            work=[_work(one, run) for one in nested],
            objective=objective_of(run),
        )


def _curves(
    client: MlflowClient, trials: Sequence[RecordedTrial]
) -> dict[int, Mapping[int, float]]:
    def curve(trial: RecordedTrial) -> tuple[int, dict[int, float]]:
        metric = OBJECTIVES[trial.objective].metric
        return trial.number, _history(client, trial.run_id, metric)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return dict(threads.map(curve, trials))


def _history(client: MlflowClient, run_id: str, metric: str) -> dict[int, float]:
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
    """Return what a run's artifact says; None where there is none, as of one that diverged."""
    if name not in {file.path for file in client.list_artifacts(run.info.run_id)}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(client.download_artifacts(run.info.run_id, name, folder))
        return read(path.read_bytes().decode())


def _work(run: Run, study: Run) -> Work:
    """Return what a run computed; a trial's resources are its study's."""
    is_trial = run.data.tags["kind"] == "trial"
    held, suffix = (study.data.params, "_per_trial") if is_trial else (run.data.params, "")
    time = "duration_seconds" if is_trial else COMPUTE_SECONDS
    return Work(
        kind=run.data.tags["kind"],
        seconds=run.data.metrics.get(time, math.nan),
        cpus=float(held.get(f"cpus{suffix}", "0")),
        gpus=float(held.get(f"gpus{suffix}", "0")),
    )
