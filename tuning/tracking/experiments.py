"""The tracking store's experiments, one per data set, and what MLflow's page first shows of them.

A saved view is a tag of the experiment, as MLflow's "Save view" makes it. Opened by a link, it sets
filter, order, columns and charts. Its format is undocumented; it was taken from MLflow 3.17.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException

from mianet.errors import InputError
from tuning.events.event import now_ms
from tuning.spec.objectives import OBJECTIVES
from tuning.spec.records import LOG10_PREFIX, NOTE_TAG, StudyDescription
from tuning.tracking.store import TrackingStore

EXPERIMENT_PREFIX = "mianet-"

VIEW_TAG = "mlflow.sharedViewState."
LOCAL_SERVER = "http://127.0.0.1:5000"  # where ``mlflow ui`` serves a database

_SECTION = "search"
_MANUAL = {"deleted": False, "isGenerated": False}


@dataclass(frozen=True)
class Links:
    """Where to find a study."""

    command: str  # serves a database at these addresses; empty where a server does
    trials: str  # the best first
    comparison: str  # charts


def experiment_name(dataset: str) -> str:
    """Return the experiment of a data set: ``mianet-awa1``, ``mianet-synthetic-apy``."""
    return EXPERIMENT_PREFIX + re.sub(r"[^a-z0-9._-]+", "-", dataset.lower())


def experiment_for(store: TrackingStore, dataset: str) -> Experiment:
    """Return the experiment of a data set, created if there is none; refuse a deleted one."""
    name = experiment_name(dataset)
    with store.requesting(f"the experiment {name}"):
        experiment = store.client.get_experiment_by_name(name)
        if experiment is None:
            experiment = _create_experiment(store, name, dataset)
    if experiment.lifecycle_stage != "active":
        raise InputError(
            f"the experiment {name} must be active, but it was deleted in MLflow; restore it "
            f"with: mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    return experiment


def save_view(store: TrackingStore, experiment: Experiment, study: StudyDescription) -> None:
    """Save the view of a study; saving it again replaces it.

    Args:
        store: Where it is recorded.
        experiment: The experiment there.
        study: The study.
    """
    view = {"name": study.name, "createdAt": now_ms(), "state": json.dumps(_state(study))}
    with store.requesting("a saved view"):
        store.client.set_experiment_tag(
            experiment.experiment_id, VIEW_TAG + _key(study.name), json.dumps(view)
        )


def links_to(store: TrackingStore, experiment: Experiment, study: str) -> Links:
    """Return where to find a study.

    Args:
        store: Where it is recorded.
        experiment: The experiment of its data set.
        study: Its name.
    """
    is_database = store.artifact_root is not None
    server = LOCAL_SERVER if is_database else store.shown.rstrip("/")
    page = f"{server}/#/experiments/{experiment.experiment_id}/runs"
    view = f"workflowType=machine_learning&viewStateShareKey={_key(study)}"
    return Links(
        store.location_of(experiment, "") if is_database else "",
        f"{page}?{view}",
        f"{page}?{view}&compareRunsMode=CHART",
    )


def _create_experiment(store: TrackingStore, name: str, dataset: str) -> Experiment:
    location = store.artifact_root and f"{store.artifact_root}/{name}"
    # Without a kind, MLflow shows the experiment as one for language models.
    tags = {
        "mlflow.experimentKind": "custom_model_development",
        NOTE_TAG: f"Hyperparameter searches of MIANet on {dataset}: one run per study, with its "
        "trials and final trainings nested in it.",
    }
    try:
        return store.client.get_experiment(store.client.create_experiment(name, location, tags))
    except MlflowException:
        found = store.client.get_experiment_by_name(name)
        if found is None:
            raise
        return found  # another process was faster


def _key(study: str) -> str:
    return hashlib.sha256(study.encode()).hexdigest()[:6]  # keeps its address on one line


def _state(study: StudyDescription) -> dict[str, Any]:
    """Return the state that MLflow's page saves for a view of an experiment."""
    return {
        "searchFilter": f"tags.study = '{study.name}' AND tags.kind = 'trial'",
        "orderByKey": "metrics.`score`",
        "orderByAsc": False,
        "selectedColumns": [
            "metrics.`score`",
            *(f"params.`{name}`" for name in study.space),
            "metrics.`best_epoch`",
            "tags.`status`",
        ],
        "runsHiddenMode": "FIRST_10_RUNS",
        "compareRunSections": [
            {"uuid": _SECTION, "name": study.name, "display": True, "columns": 2, **_MANUAL}
            | {"isReordered": False}
        ],
        "compareRunCharts": _charts(study),
    }


def _charts(study: StudyDescription) -> list[dict[str, Any]]:
    """Return charts: all hyperparameters, the best curves, and the score over each of them."""
    axes = [
        {"key": f"{LOG10_PREFIX}{name}", "type": "METRIC"}
        if getattr(distribution, "log", False)
        else {"key": name, "type": "PARAM"}
        for name, distribution in study.space.items()
    ]
    score = {"key": "score", "type": "METRIC"}
    value = OBJECTIVES[study.objective].value
    charts: list[dict[str, Any]] = [
        {
            "type": "PARALLEL",
            "selectedParams": [axis["key"] for axis in axes if axis["type"] == "PARAM"],
            "selectedMetrics": [a["key"] for a in (*axes, score) if a["type"] == "METRIC"],
            "showAllRuns": True,
        },
        {"type": "LINE", "metricKey": value, "selectedMetricKeys": [value], "displayName": value},
        *({"type": "SCATTER", "xaxis": axis, "yaxis": score} for axis in axes),
    ]
    return [
        {
            "uuid": f"{_SECTION}-{place}",
            "metricSectionId": _SECTION,
            "runsCountToCompare": 10,
            **_MANUAL,
            **chart,
        }
        for place, chart in enumerate(charts)
    ]
