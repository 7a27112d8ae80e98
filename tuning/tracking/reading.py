"""Read back from MLflow what was recorded of trials and studies.

If the store does not answer, or does not have what is asked for, all of these functions raise an
``InputError`` that says what there is.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mlflow.entities import Experiment, Run
from mlflow.tracking import MlflowClient
from optuna.distributions import BaseDistribution

from mianet.calibration import SeenUnseenCurve
from mianet.errors import InputError
from tuning.analysis.outcome_table import FIGURES
from tuning.spec import final_files, records
from tuning.spec.final_files import Confusion
from tuning.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES
from tuning.spec.records import Confirmation, RecordedTrial, Work
from tuning.spec.space import space_from_json
from tuning.spec.warm_start import EarlierStudy
from tuning.tracking.experiments import EXPERIMENT_PREFIX, Links, experiment_name, links_to
from tuning.tracking.store import PARENT_TAG, TrackingStore, open_store, runs_of

T = TypeVar("T")

_SEARCH = "a search for runs"  # what reading asks of the store
_AT_ONCE = 8
"""Concurrent requests: a server takes tens of milliseconds for each, and there is one per trial."""


@dataclass(frozen=True, kw_only=True)
class FinalTraining:
    """A final training as the tracking store has it."""

    role: str  # ``selected`` or ``paper``
    status: str
    reason: str
    source_run_id: str
    seeds: int
    figures: Mapping[str, float]  # ``test_<figure>_mean`` and ``_sd`` over the seeds
    constant: float  # subtracted from seen classes' scores when calibrated; NaN for none
    confusion: Confusion | None  # None where it is not recorded
    curves: Mapping[int, SeenUnseenCurve]  # by seed; empty where they are not recorded
    per_seed: Mapping[str, Mapping[int, float]]  # figure → position of the seed → value


@dataclass(frozen=True, kw_only=True)
class RecordedStudy:
    """A study as the tracking store has it."""

    name: str
    dataset: str
    model: str
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


def read_trials(tracking_uri: str, dataset: str, study: str | None = None) -> list[RecordedTrial]:
    """Return the recorded trials of a data set, by study and number.

    Args:
        tracking_uri: The store that they were recorded to.
        dataset: Canonical name of the data set.
        study: Only those of the studies of this name.
    """
    store = open_store(tracking_uri, must_exist=True)
    with store.requesting(_SEARCH, seconds=None):
        experiment = _experiment(store, dataset)
        studies = _studies_named(store, experiment, study)
        nested = defaultdict(list)
        for run in runs_of(store.client, experiment.experiment_id, {}):
            nested[run.data.tags.get(PARENT_TAG)].append(run)
    return [trial for run in studies for trial in _trials(run, nested[run.info.run_id])]


def read_earlier_study(tracking_uri: str, study_name: str, dataset: str) -> EarlierStudy:
    """Return a study, of any data set, to warm-start another one from.

    Args:
        tracking_uri: The store that it was recorded to.
        study_name: Its name, or ``<data set>/<name>``.
        dataset: The data set at hand, where a name is looked up first.
    """
    where, _, name = study_name.rpartition("/")
    store = open_store(tracking_uri, must_exist=True)
    with store.requesting(_SEARCH, seconds=None):
        found = {
            run.data.tags["dataset"]: run
            for experiment in _experiments(store)
            for run in _studies(store, experiment)
            if run.data.tags["study"] == name
        }
        chosen = where or (dataset if dataset in found else next(iter(found), ""))
        if chosen not in found:
            raise InputError(
                f"--warm-start must name studies that are recorded in {store.uri}, but "
                f"{study_name} is not; `mlflow ui` shows those that are"
            )
        if not where and chosen != dataset and len(found) > 1:
            raise InputError(
                f"--warm-start must name one study, but {name} is a study of several data sets; "
                f"choose from: {', '.join(f'{one}/{name}' for one in sorted(found))}"
            )
        study = found[chosen]
        trials = _trials(study, _nested_in(store, study))
    tags = study.data.tags
    searched = tuple(space_from_json(tags[records.SPACE_TAG]))
    return EarlierStudy(chosen, name, tags["model"], searched, trials)


def check_new_study(tracking_uri: str, dataset: str, study: str) -> None:
    """Check that no study of this name is recorded: two would be read back as one.

    Args:
        tracking_uri: The store.
        dataset: Canonical name of the data set.
        study: The name.
    """
    store = open_store(tracking_uri)
    with store.requesting(_SEARCH, seconds=None):
        experiment = store.client.get_experiment_by_name(experiment_name(dataset))
        recorded = _studies(store, experiment) if experiment else []
    if study in (run.data.tags["study"] for run in recorded):
        raise InputError(
            f"the study must have a new name, but {study!r} is already recorded in "
            f"{store.uri}; give another --study, or leave it out"
        )


def read_study(tracking_uri: str, dataset: str, study: str | None = None) -> RecordedStudy:
    """Return what is recorded about a study.

    Args:
        tracking_uri: The store that it was recorded to.
        dataset: Canonical name of its data set.
        study: Its name; None for the newest of the data set.
    """
    store = open_store(tracking_uri, must_exist=True)
    with store.requesting(_SEARCH, seconds=None):
        experiment = _experiment(store, dataset)
        studies = _studies_named(store, experiment, study)
        if not studies:
            raise InputError(
                f"a study of {dataset} must be recorded to report on, but there is none; run a "
                "search first"
            )
        run, client = studies[-1], store.client
        nested, name = _nested_in(store, run), run.data.tags["study"]
        trials = _trials(run, nested)
        # The newest that has figures counts, else the newest.
        tested = sorted(nested, key=lambda one: "test_harmonic_mean_mean" in one.data.metrics)
        finals = {r.data.tags["role"]: r for r in tested if r.data.tags["kind"] == "final"}
        return RecordedStudy(
            name=name,
            dataset=dataset,
            model=run.data.tags["model"],
            run_id=run.info.run_id,
            location=store.location_of(experiment, run.info.run_id),
            links=links_to(store, experiment, name),
            status=run.data.tags["status"],
            seconds=run.data.metrics.get("duration_seconds", math.nan),
            started=run.info.start_time,
            settings=dict(run.data.params),
            space=space_from_json(run.data.tags[records.SPACE_TAG]),
            trials=trials,
            curves=_curves(client, trials),
            finals={role: _final(client, one) for role, one in finals.items()},
            work=[_work(one, run) for one in nested],
            objective=_objective(run),
        )


def _experiment(store: TrackingStore, dataset: str) -> Experiment:
    name = experiment_name(dataset)
    found = {experiment.name: experiment for experiment in _experiments(store)}
    if name not in found:
        others = records.listed(list(found)) or "none"
        raise InputError(
            f"a search of {dataset} must be recorded in {store.uri}, but it has no experiment "
            f"{name} (it has: {others}); run a search first, or give the --tracking-uri that it "
            "was recorded to"
        )
    return found[name]


def _studies_named(store: TrackingStore, experiment: Experiment, name: str | None) -> list[Run]:
    """Return the runs of the studies with this name, or of all studies for None."""
    studies = _studies(store, experiment)
    names = sorted({run.data.tags["study"] for run in studies})
    if name is not None and name not in names:
        raise InputError(
            f"the study must be one of those recorded in {store.uri} "
            f"({records.listed(names) or 'none'}), but got {name!r}"
        )
    return [run for run in studies if name in (None, run.data.tags["study"])]


def _nested_in(store: TrackingStore, study: Run) -> list[Run]:
    return runs_of(store.client, study.info.experiment_id, {PARENT_TAG: study.info.run_id})


def _trials(study: Run, nested: Sequence[Run]) -> list[RecordedTrial]:
    """Return a study's trials by number; of several finished confirmations the newest counts."""
    confirmations = {
        run.data.tags["source_run_id"]: Confirmation(
            per_draw=records.per_execution(run.data.metrics, _objective(run)),
            metrics={
                name.removesuffix("_mean"): value
                for name, value in run.data.metrics.items()
                if name.endswith("_mean")
            },
        )
        for run in nested
        if run.data.tags["kind"] == records.CONFIRMATION and run.data.tags["status"] == "finished"
    }
    trials = [
        _trial(run, study, confirmations.get(run.info.run_id))
        for run in nested
        if run.data.tags["kind"] == "trial"
    ]
    return sorted(trials, key=lambda trial: (trial.number, trial.started))


def _objective(run: Run) -> str:
    """Return the objective that a run's score is of, if this version of the code knows it."""
    objective = run.data.tags.get(records.OBJECTIVE_TAG, "")
    if objective not in OBJECTIVES:
        known = records.listed(list(OBJECTIVES))
        raise InputError(
            f"the objective of run {run.info.run_id} must be one of {known}, but got "
            f"{objective!r}; read it with the version that recorded it"
        )
    return objective


def _experiments(store: TrackingStore) -> list[Experiment]:
    found = store.client.search_experiments()
    return [one for one in found if one.name.startswith(EXPERIMENT_PREFIX)]


def _studies(store: TrackingStore, experiment: Experiment) -> list[Run]:
    return runs_of(store.client, experiment.experiment_id, {"kind": "study"})


def _trial(run: Run, study: Run, confirmation: Confirmation | None) -> RecordedTrial:
    tags, metrics = run.data.tags, run.data.metrics
    protocol = json.loads(study.data.tags["protocol"])
    executions = {int(k): v for k, v in json.loads(tags.get(records.EXECUTIONS_TAG, "{}")).items()}
    return RecordedTrial(
        run_id=run.info.run_id,
        study=tags["study"],
        study_run_id=study.info.run_id,
        study_started=study.info.start_time,
        number=int(tags["number"]),
        status=tags["status"],
        origin=tags["origin"],
        hyperparameters=dict(run.data.params),
        score=metrics.get("score", math.nan),
        best_epoch=int(metrics.get("best_epoch", 0)),
        final_epochs=int(metrics.get("final_epochs", 0)),
        metrics={
            name.removeprefix(records.BEST_PREFIX): value
            for name, value in metrics.items()
            if name.startswith(f"{records.BEST_PREFIX}val_")
        },
        per_execution=executions,
        confirmation=confirmation,
        executions=len(executions),
        planned_executions=int(protocol.get("executions", 0)),
        protocol=protocol,
        data_digest=tags["data_digest"],
        started=run.info.start_time,
        reason=tags.get("reason", ""),
        epochs=int(metrics.get("epochs", 0)),
        seconds=metrics.get("duration_seconds", math.nan),
        objective=_objective(study),
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
        confusion=_file(client, run, final_files.CONFUSION_FILE, final_files.read_confusion),
        curves=_file(client, run, final_files.CURVE_FILE, final_files.read_curves) or {},
        per_seed={
            figure: _history(client, run.info.run_id, f"test_{figure}") for figure in FIGURES
        },
    )


def _file(client: MlflowClient, run: Run, name: str, read: Callable[[str], T]) -> T | None:
    """Return the parsed artifact of a run; None if there is none, as when a run diverged."""
    if name not in {file.path for file in client.list_artifacts(run.info.run_id)}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(client.download_artifacts(run.info.run_id, name, folder))
        return read(path.read_bytes().decode())


def _work(run: Run, study: Run) -> Work:
    """Return what a run computed; a trial's resources are its study's."""
    is_trial = run.data.tags["kind"] == "trial"
    params, suffix = (study.data.params, "_per_trial") if is_trial else (run.data.params, "")
    time = "duration_seconds" if is_trial else records.COMPUTE_SECONDS
    return Work(
        kind=run.data.tags["kind"],
        seconds=run.data.metrics.get(time, math.nan),
        cpus=float(params.get(f"cpus{suffix}", "0")),
        gpus=float(params.get(f"gpus{suffix}", "0")),
    )
