"""Read back from MLflow what was recorded of a data set's trials."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException

from mianet.errors import InputError
from tuning.spec.choices import MIANET
from tuning.spec.objectives import OBJECTIVES
from tuning.spec.records import (
    BEST_PREFIX,
    CONFIRMATION,
    EXECUTIONS_TAG,
    OBJECTIVE_TAG,
    Confirmation,
    RecordedTrial,
    listed,
    per_execution,
)
from tuning.spec.warm_start import EarlierStudy
from tuning.tracking.experiments import EXPERIMENT_PREFIX, experiment_name, refused_by
from tuning.tracking.store import TrackingStore, open_store

PARENT_TAG = "mlflow.parentRunId"

_PAGE = 1000


def read_trials(tracking_uri: str, dataset: str, study: str | None = None) -> list[RecordedTrial]:
    """Return the recorded trials of a data set, by study and number.

    Args:
        tracking_uri: The store that they were recorded to.
        dataset: Canonical name of the data set.
        study: Only those of the studies of this name.

    Raises:
        InputError: There is no such store, experiment or study; names those that there are.
    """
    store = open_store(tracking_uri, must_exist=True)
    try:
        experiment = experiment_of(store, dataset)
        studies = {run.info.run_id: run for run in runs_of(store, experiment, "study")}
        check_named(store, study, studies)
        trials = [
            trial_of(run, studies[parent])
            for run in runs_of(store, experiment, "trial")
            if (parent := run.data.tags.get(PARENT_TAG)) in studies
        ]
        confirmations = confirmations_of(runs_of(store, experiment, CONFIRMATION))
    except (MlflowException, OSError) as error:
        raise refused_by(store, "a search for runs", error) from error
    chosen = [
        replace(trial, confirmation=confirmations.get(trial.run_id))
        for trial in trials
        if study is None or trial.study == study
    ]
    return sorted(chosen, key=lambda t: (t.study_started, t.study_run_id, t.number, t.started))


def read_earlier_study(tracking_uri: str, asked: str, dataset: str) -> EarlierStudy:
    """Return a study of any data set to begin another one with.

    Args:
        tracking_uri: The store that it was recorded to.
        asked: Its name, or ``<data set>/<name>``.
        dataset: The data set at hand, where a name is looked for first.

    Raises:
        InputError: There is no such study, or the name is one of several data sets' studies.
    """
    where, _, name = asked.rpartition("/")
    store = open_store(tracking_uri, must_exist=True)
    try:
        found = {
            run.data.tags["dataset"]: (experiment, run)
            for experiment in store.client.search_experiments()
            if experiment.name.startswith(EXPERIMENT_PREFIX)
            for run in runs_of(store, experiment, "study")
            if run.data.tags["study"] == name
        }
        chosen = where or (dataset if dataset in found else next(iter(found), ""))
        if chosen not in found:
            raise InputError(
                f"--warm-start must name studies that are recorded in {store.uri}, but "
                f"{asked} is not; `mlflow ui` shows those that are"
            )
        if not where and chosen != dataset and len(found) > 1:
            raise InputError(
                f"--warm-start must say which study is meant, but {name} is one of several data "
                f"sets: {', '.join(f'{one}/{name}' for one in sorted(found))}"
            )
        experiment, study = found[chosen]
        nested = list(runs_of(store, experiment, parent=study.info.run_id))
    except (MlflowException, OSError) as error:
        raise refused_by(store, "a search for runs", error) from error
    confirmations = confirmations_of(run for run in nested if run.data.tags["kind"] == CONFIRMATION)
    trials = [
        replace(trial_of(run, study), confirmation=confirmations.get(run.info.run_id))
        for run in nested
        if run.data.tags["kind"] == "trial"
    ]
    params = study.data.params
    searched = tuple(name for name in params.get("searched", "").split(", ") if name)
    return EarlierStudy(chosen, name, params.get("model", MIANET), searched, trials)


def check_new_study(tracking_uri: str, dataset: str, study: str) -> None:
    """Check that no study of the name is recorded: two would be taken for one when read back.

    Raises:
        InputError: There is one, or the store does not answer.
    """
    store = open_store(tracking_uri)
    try:
        experiment = store.client.get_experiment_by_name(experiment_name(dataset))
        runs = runs_of(store, experiment, "study") if experiment else ()
        names = {run.data.tags["study"] for run in runs}
    except (MlflowException, OSError) as error:
        raise refused_by(store, "a search for runs", error) from error
    if study in names:
        raise InputError(
            f"the study must have a new name, but {study!r} is recorded in "
            f"{store.uri}; give another --study, or leave it out"
        )


def experiment_of(store: TrackingStore, dataset: str) -> Experiment:
    """Return the experiment of a data set.

    Raises:
        InputError: There is none; names those that there are.
    """
    name = experiment_name(dataset)
    experiment = store.client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage == "active":
        return experiment
    found = [
        known.name
        for known in store.client.search_experiments()
        if known.name.startswith(EXPERIMENT_PREFIX)
    ]
    raise InputError(
        f"a search of {dataset} must be recorded in {store.uri}, but it has no "
        f"experiment {name} ({f'it has: {listed(found)}' if found else 'nor any other of ours'}); "
        "run a search first, or give the --tracking-uri that it recorded to"
    )


def check_named(store: TrackingStore, study: str | None, studies: dict[str, Run]) -> None:
    """Check that a study of the name is recorded.

    Raises:
        InputError: There is none; names those that there are.
    """
    names = sorted({run.data.tags["study"] for run in studies.values()})
    if study is not None and study not in names:
        raise InputError(
            f"the study must be one of those recorded in {store.uri} "
            f"({listed(names) or 'there is none'}), but got {study!r}"
        )


def runs_of(
    store: TrackingStore, experiment: Experiment, kind: str = "", parent: str = ""
) -> Iterator[Run]:
    """Yield the runs of an experiment: of one kind, or nested in one run, if asked for."""
    wanted = {"tags.kind": kind, f"tags.`{PARENT_TAG}`": parent}
    condition = " and ".join(f"{tag} = '{value}'" for tag, value in wanted.items() if value)
    token = None
    while True:
        page = store.client.search_runs(
            [experiment.experiment_id],
            filter_string=condition,
            max_results=_PAGE,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def confirmations_of(runs: Iterable[Run]) -> dict[str, Confirmation]:
    """Return run of the trial → its confirmation; of several finished ones the newest."""
    oldest_first = sorted(runs, key=lambda run: run.info.start_time)
    return {
        run.data.tags["source_run_id"]: Confirmation(
            per_draw=per_execution(run.data.metrics, objective_of(run)),
            metrics={
                name.removesuffix("_mean"): value
                for name, value in run.data.metrics.items()
                if name.endswith("_mean")
            },
            run_id=run.info.run_id,
        )
        for run in oldest_first
        if run.data.tags["status"] == "finished"
    }


def objective_of(run: Run) -> str:
    """Return what a run's score is of.

    Raises:
        InputError: Another version of the code knows it, this one does not.
    """
    objective = run.data.tags.get(OBJECTIVE_TAG, "")
    if objective not in OBJECTIVES:
        raise InputError(
            f"the objective of run {run.info.run_id} must be one of {listed(list(OBJECTIVES))}, "
            f"but got {objective!r}; read it with the version that recorded it"
        )
    return objective


def trial_of(run: Run, study: Run) -> RecordedTrial:
    """Return what a trial's run says, beside what its study's run does."""
    tags, metrics = run.data.tags, run.data.metrics
    protocol = json.loads(study.data.tags["protocol"])
    executions = {int(k): v for k, v in json.loads(tags.get(EXECUTIONS_TAG, "{}")).items()}
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
        metrics={
            name.removeprefix(BEST_PREFIX): value
            for name, value in metrics.items()
            if name.startswith(f"{BEST_PREFIX}val_")
        },
        per_execution=executions,
        executions=len(executions),
        planned_executions=int(protocol.get("executions", 0)),
        protocol=protocol,
        data_digest=tags["data_digest"],
        code_version=tags["git_revision"] + ("+dirty" if tags["git_dirty"] == "true" else ""),
        started=run.info.start_time,
        reason=tags.get("reason", ""),
        epochs=int(metrics.get("epochs", 0)),
        seconds=metrics.get("duration_seconds", math.nan),
        device=tags.get("device", ""),
        objective=objective_of(study),
    )
