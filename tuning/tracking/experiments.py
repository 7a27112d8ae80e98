"""Experiments of the tracking store: one a data set, and where a person finds a run in them."""

from __future__ import annotations

import re
import shlex

from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException

from mianet.errors import InputError
from tuning.spec.records import NOTE_TAG
from tuning.tracking.store import TrackingStore

EXPERIMENT_PREFIX = "mianet-"


def experiment_name(dataset: str) -> str:
    """Return the experiment of a data set: ``mianet-awa1``, ``mianet-synthetic-apy``."""
    return EXPERIMENT_PREFIX + re.sub(r"[^a-z0-9._-]+", "-", dataset.lower())


def experiment_for(store: TrackingStore, dataset: str) -> Experiment:
    """Return the experiment of a data set, created where there is none.

    Raises:
        InputError: It was deleted in MLflow, or the store does not accept it.
    """
    name = experiment_name(dataset)
    with store.asked(f"the experiment {name}"):
        experiment = store.client.get_experiment_by_name(name)
        if experiment is None:
            experiment = _created(store, name, dataset)
    if experiment.lifecycle_stage != "active":
        raise InputError(
            f"the experiment {name} must be active, but it was deleted in MLflow; bring it back "
            f"with: mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    return experiment


def location_of(store: TrackingStore, experiment: Experiment, run_id: str) -> str:
    """Return where a person finds a run: an address, or the command that shows it."""
    uri = store.shown.rstrip("/")
    if store.artifact_root is not None:
        return f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
    run = f"experiments/{experiment.experiment_id}/runs/{run_id}"
    return f"{uri}/#/{run}?workflowType=machine_learning"


def _created(store: TrackingStore, name: str, dataset: str) -> Experiment:
    location = store.artifact_root and f"{store.artifact_root}/{name}"
    # Without its kind MLflow shows the experiment as one of language models.
    tags = {
        "mlflow.experimentKind": "custom_model_development",
        NOTE_TAG: f"Hyperparameter searches of MIANet on {dataset}: a run a study, its trials and "
        "final trainings nested in it.",
    }
    try:
        return store.client.get_experiment(store.client.create_experiment(name, location, tags))
    except MlflowException:
        found = store.client.get_experiment_by_name(name)
        if found is None:
            raise
        return found  # another process was faster
