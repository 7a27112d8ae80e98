"""What MLflow's page shows of a study first: saved views of its experiment, and links to them.

A saved view is a tag of the experiment, as MLflow's "Save view" makes it. Opened by a link, it sets
filter, order, columns and charts. What is in one is not documented; it was read off MLflow 3.17.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from optuna.distributions import BaseDistribution

from mianet.addresses import without_credentials
from tuning.events.event import now_ms
from tuning.spec.objectives import OBJECTIVES
from tuning.spec.records import LOG10_PREFIX, StudyDescription
from tuning.tracking.experiments import location_of, refused_by
from tuning.tracking.store import OPEN_TIMEOUT_SECONDS, TrackingStore, short_requests

VIEW_TAG = "mlflow.sharedViewState."
LOCAL_SERVER = "http://127.0.0.1:5000"
"""Where ``mlflow ui`` serves a database."""

_BEST_FIRST = {"orderByKey": "metrics.`score`", "orderByAsc": False}
_SECTION = "search"


@dataclass(frozen=True)
class Links:
    """Where a person finds a study.

    Attributes:
        command: What serves a database at the addresses; empty where a server does.
        trials: Its trials with their hyperparameters, the best first.
        comparison: Charts of its trials, and of the ten best in particular.
    """

    command: str
    trials: str
    comparison: str


def save_view(store: TrackingStore, experiment: Experiment, study: StudyDescription) -> None:
    """Save the view of a study; saved again, it replaces itself.

    Raises:
        InputError: The store does not accept it.
    """
    value = json.dumps(
        {"name": study.name, "createdAt": now_ms(), "state": json.dumps(_state(study))}
    )
    try:
        with short_requests(OPEN_TIMEOUT_SECONDS):
            store.client.set_experiment_tag(
                experiment.experiment_id, VIEW_TAG + _key(study.name), value
            )
    except (MlflowException, OSError) as error:
        raise refused_by(store, "a saved view", error) from error


def links_to(store: TrackingStore, experiment: Experiment, study: str) -> Links:
    """Return where a person finds a study of this name."""
    is_database = store.artifact_root is not None
    server = LOCAL_SERVER if is_database else without_credentials(store.uri).rstrip("/")
    page = f"{server}/#/experiments/{experiment.experiment_id}/runs"
    view = f"workflowType=machine_learning&viewStateShareKey={_key(study)}"
    return Links(
        location_of(store, experiment, "") if is_database else "",
        f"{page}?{view}",
        f"{page}?{view}&compareRunsMode=CHART",
    )


def _key(study: str) -> str:
    return hashlib.sha256(study.encode()).hexdigest()[:6]  # its address fits a line


def _state(study: StudyDescription) -> dict[str, Any]:
    """Return what MLflow's page remembers of how a person looks at an experiment."""
    return {
        "searchFilter": f"tags.study = '{study.name}' AND tags.kind = 'trial'",
        **_BEST_FIRST,
        "selectedColumns": [
            "metrics.`score`",
            *(f"params.`{name}`" for name in study.space),
            "metrics.`best_epoch`",
            "tags.`status`",
        ],
        "runsHiddenMode": "FIRST_10_RUNS",
        "compareRunSections": [
            {
                "uuid": _SECTION,
                "name": study.name,
                "display": True,
                "isReordered": False,
                "columns": 2,
                "deleted": False,
                "isGenerated": False,
            }
        ],
        "compareRunCharts": _charts(study),
    }


def _charts(study: StudyDescription) -> list[dict[str, Any]]:
    """Return charts: all hyperparameters, the best curves, and the score over each of them."""
    axes = {name: _axis(name, distribution) for name, distribution in study.space.items()}
    score = {"key": "score", "type": "METRIC"}
    value = OBJECTIVES[study.objective].value
    metrics = [axis["key"] for axis in axes.values() if axis["type"] == "METRIC"]
    params = [axis["key"] for axis in axes.values() if axis["type"] == "PARAM"]
    charts: list[dict[str, Any]] = [
        {
            "type": "PARALLEL",
            "selectedParams": params,
            "selectedMetrics": [*metrics, "score"],
            "showAllRuns": True,
        },
        {"type": "LINE", "metricKey": value, "selectedMetricKeys": [value], "displayName": value},
        *({"type": "SCATTER", "xaxis": axis, "yaxis": score} for axis in axes.values()),
    ]
    return [
        {
            "uuid": f"{_SECTION}-{place}",
            "metricSectionId": _SECTION,
            "runsCountToCompare": 10,
            "deleted": False,
            "isGenerated": False,
            **chart,
        }
        for place, chart in enumerate(charts)
    ]


def _axis(name: str, distribution: BaseDistribution) -> dict[str, str]:
    if getattr(distribution, "log", False):
        return {"key": f"{LOG10_PREFIX}{name}", "type": "METRIC"}
    return {"key": name, "type": "PARAM"}
