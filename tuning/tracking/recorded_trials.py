"""Read back from MLflow what was recorded of a data set's trials.

Where the store does not answer, or does not have what is asked for, all of this raises an
``InputError`` that says what there is.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence

from mlflow.entities import Experiment, Run

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
from tuning.tracking.experiments import EXPERIMENT_PREFIX, experiment_name
from tuning.tracking.store import PARENT_TAG, TrackingStore, open_store, runs_of

SEARCH = "a search for runs"
"""What reading asks of the store."""


def read_trials(tracking_uri: str, dataset: str, study: str | None = None) -> list[RecordedTrial]:
    """Return the recorded trials of a data set, by study and number.

    Args:
        tracking_uri: The store that they were recorded to.
        dataset: Canonical name of the data set.
        study: Only those of the studies of this name.
    """
    store = open_store(tracking_uri, must_exist=True)
    with store.asked(SEARCH, seconds=None):
        experiment = experiment_of(store, dataset)
        studies = studies_named(store, experiment, study)
        nested = defaultdict(list)
        for run in runs_of(store.client, experiment.experiment_id, {}):
            nested[run.data.tags.get(PARENT_TAG)].append(run)
    studies.sort(key=lambda run: (run.info.start_time, run.info.run_id))
    return [trial for run in studies for trial in trials_of(run, nested[run.info.run_id])]


def read_earlier_study(tracking_uri: str, asked: str, dataset: str) -> EarlierStudy:
    """Return a study of any data set to begin another one with.

    Args:
        tracking_uri: The store that it was recorded to.
        asked: Its name, or ``<data set>/<name>``.
        dataset: The data set at hand, where a name is looked for first.
    """
    where, _, name = asked.rpartition("/")
    store = open_store(tracking_uri, must_exist=True)
    with store.asked(SEARCH, seconds=None):
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
                f"{asked} is not; `mlflow ui` shows those that are"
            )
        if not where and chosen != dataset and len(found) > 1:
            raise InputError(
                f"--warm-start must say which study is meant, but {name} is one of several data "
                f"sets: {', '.join(f'{one}/{name}' for one in sorted(found))}"
            )
        study = found[chosen]
        trials = trials_of(study, nested_in(store, study))
    params = study.data.params
    searched = tuple(name for name in params.get("searched", "").split(", ") if name)
    return EarlierStudy(chosen, name, params.get("model", MIANET), searched, trials)


def check_new_study(tracking_uri: str, dataset: str, study: str) -> None:
    """Check that no study of the name is recorded: two would be taken for one when read back.

    Args:
        tracking_uri: The store.
        dataset: Canonical name of the data set.
        study: The name.
    """
    store = open_store(tracking_uri)
    with store.asked(SEARCH, seconds=None):
        experiment = store.client.get_experiment_by_name(experiment_name(dataset))
        recorded = _studies(store, experiment) if experiment else []
    if study in (run.data.tags["study"] for run in recorded):
        raise InputError(
            f"the study must have a new name, but {study!r} is recorded in "
            f"{store.uri}; give another --study, or leave it out"
        )


def experiment_of(store: TrackingStore, dataset: str) -> Experiment:
    name = experiment_name(dataset)
    found = {experiment.name: experiment for experiment in _experiments(store)}
    if name not in found:
        others = f"it has: {listed(list(found))}" if found else "nor any other of ours"
        raise InputError(
            f"a search of {dataset} must be recorded in {store.uri}, but it has no "
            f"experiment {name} ({others}); run a search first, or give the --tracking-uri that it "
            "recorded to"
        )
    return found[name]


def studies_named(store: TrackingStore, experiment: Experiment, name: str | None) -> list[Run]:
    """Return the runs of the studies of a name.

    Args:
        store: The store.
        experiment: The experiment there.
        name: The name; None for all studies.
    """
    studies = _studies(store, experiment)
    names = sorted({run.data.tags["study"] for run in studies})
    if name is not None and name not in names:
        raise InputError(
            f"the study must be one of those recorded in {store.uri} "
            f"({listed(names) or 'there is none'}), but got {name!r}"
        )
    return [run for run in studies if name in (None, run.data.tags["study"])]


def nested_in(store: TrackingStore, study: Run) -> list[Run]:
    """Return the runs that are nested in a study's, the oldest first."""
    found = runs_of(store.client, study.info.experiment_id, {PARENT_TAG: study.info.run_id})
    return sorted(found, key=lambda run: run.info.start_time)


def trials_of(study: Run, nested: Sequence[Run]) -> list[RecordedTrial]:
    """Return the trials of a study by number; of several finished confirmations the newest counts.

    Args:
        study: The study's run.
        nested: The runs that are nested in it.
    """
    confirmations = {
        run.data.tags["source_run_id"]: Confirmation(
            per_draw=per_execution(run.data.metrics, objective_of(run)),
            metrics={
                name.removesuffix("_mean"): value
                for name, value in run.data.metrics.items()
                if name.endswith("_mean")
            },
        )
        for run in sorted(nested, key=lambda run: run.info.start_time)
        if run.data.tags["kind"] == CONFIRMATION and run.data.tags["status"] == "finished"
    }
    trials = [
        _trial(run, study, confirmations.get(run.info.run_id))
        for run in nested
        if run.data.tags["kind"] == "trial"
    ]
    return sorted(trials, key=lambda trial: (trial.number, trial.started))


def objective_of(run: Run) -> str:
    """Return what a run's score is of, if this version of the code knows it."""
    objective = run.data.tags.get(OBJECTIVE_TAG, "")
    if objective not in OBJECTIVES:
        raise InputError(
            f"the objective of run {run.info.run_id} must be one of {listed(list(OBJECTIVES))}, "
            f"but got {objective!r}; read it with the version that recorded it"
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
        confirmation=confirmation,
        executions=len(executions),
        planned_executions=int(protocol.get("executions", 0)),
        protocol=protocol,
        data_digest=tags["data_digest"],
        started=run.info.start_time,
        reason=tags.get("reason", ""),
        epochs=int(metrics.get("epochs", 0)),
        seconds=metrics.get("duration_seconds", math.nan),
        objective=objective_of(study),
    )
