"""Requests to MLflow, each of which can be sent again without being recorded twice.

A request carries its own time, so that a repeat is identical: a SQL store keeps a metric of equal
key, step, time and value once, accepts an equal parameter, overwrites a tag and recognises a data
set input by name and digest. Only creating a run is not repeatable, so each run carries a key of
ours by which it is found if the answer to its creation was lost, even by a later process.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LifecycleStage,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils import chunk_list

from tuning.events.projector import UnreachableError
from tuning.tracking.store import (
    DELIVERY_TIMEOUT_SECONDS,
    PARENT_TAG,
    reason_of,
    runs_of,
    short_requests,
)

KEY_TAG = "run_key"
PROBLEM_TAG = "recording_problem"

# MLflow accepts 1000 metrics, 100 params and 100 tags a request, 1000 of them together, and 1 MB.
_METRICS_PER_REQUEST = 800
_OTHERS_PER_REQUEST = 50

_MAX_PARAM = 6000
_MAX_TAG = 8000
# MLflow keeps 36 characters and shows all of them in every row; its own digests have 8.
_DIGEST = 12

MLFLOW_STATUS: Mapping[str, str] = {
    "finished": "FINISHED",
    "stopped_early": "FINISHED",
    "infeasible": "FINISHED",  # a verdict on the configuration: there is nothing to fix
    "failed": "FAILED",
    "interrupted": "KILLED",
}
"""How MLflow shows each status; the exact one is in the tag ``status``."""

_logger = logging.getLogger(__name__)

_TOO_LARGE = 413
_SMALL_TEXT = 1000  # a proxy that rejects this rejects everything for now
_SAYS_TOO_LARGE = f"failed with error code {_TOO_LARGE}"  # MLflow's message, which keeps the code
_FINAL_ERRORS = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE"})


class Runs:
    """The runs of one experiment that this process writes, and what is still to be sent.

    Requests are sent in order, each repeated until it is accepted or refused.
    """

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self.client = client
        self.waiting: list[Request] = []
        self.refused: list[tuple[Request, str]] = []  # with the reason
        self.abandoned = False
        self._experiment_id = experiment_id
        self.ids: dict[str, str] = {}  # our key of a run → its MLflow id
        self._attempts: Counter[str] = Counter()

    def expect(self, keys: Iterable[str]) -> None:
        """Note the runs that an earlier process created, or tried to."""
        self._attempts.update(keys)

    def put(self, *requests: Request) -> None:
        self.waiting += requests

    def flush(self) -> None:
        """Send what is waiting; an ``UnreachableError`` says why the store cannot take it now."""
        self.waiting = compact(self.waiting)
        while self.waiting:
            if self.abandoned:
                raise UnreachableError("time ran out")
            self._send(self.waiting[0])
            del self.waiting[0]

    def find(self, key: str) -> str:
        """Return the MLflow id of the run with this key; empty if there is none."""
        if key not in self.ids and self._attempts[key] and (found := self._with_key(key)):
            self.ids[key] = found[0].info.run_id
        return self.ids.get(key, "")

    def id_of(self, key: str) -> str:
        """Return the MLflow id of the run with this key; a ``LookupError`` if there is none."""
        if run_id := self.find(key):
            return run_id
        raise LookupError(f"its run was not created: {self.problem_of(key) or 'not yet'}")

    def create(self, start: StartRun) -> None:
        """Create a run, unless an earlier attempt did so and only its answer was lost."""
        if self.find(start.run):
            return
        self._attempts[start.run] += 1
        parent = {PARENT_TAG: self.id_of(start.parent)} if start.parent else {}
        run = self.client.create_run(
            self._experiment_id,
            start_time=start.time_ms,
            tags=_tags({**start.tags, **parent, KEY_TAG: start.run}),
            run_name=start.name,
        )
        self.ids[start.run] = run.info.run_id

    def problem_of(self, key: str) -> str:
        return next((reason for request, reason in self.refused if request.run == key), "")

    def delete_duplicates(self, key: str) -> None:
        """Delete duplicates, from creation requests that arrived after being presumed lost."""
        for run in self._with_key(key) if self._attempts[key] > 1 else []:
            if run.info.run_id != self.ids[key]:
                self.client.delete_run(run.info.run_id)

    def nested_in(self, run_id: str) -> list[Run]:
        return runs_of(self.client, self._experiment_id, {PARENT_TAG: run_id})

    def _send(self, request: Request) -> None:
        try:
            with short_requests(DELIVERY_TIMEOUT_SECONDS):
                try:
                    request.send(self)
                except Exception as error:
                    if is_temporary(error):
                        raise
                    self._check_experiment()
                    request.send(self)  # the experiment may have been restored just before
        except UnreachableError:
            raise
        except Exception as error:
            reason = reason_of(error)
            if is_too_large(error) and request.longest_text > _SMALL_TEXT:
                reason = (
                    f"error code {_TOO_LARGE}: a text of {request.longest_text} characters is too "
                    "large; raise the limit of the proxy in front of the server, such as nginx's "
                    "client_max_body_size"
                )
            elif is_temporary(error):
                raise UnreachableError(reason) from error
            self.refused.append((request, reason))
            _logger.warning("the tracking store refused a request: %s", reason)

    def _check_experiment(self) -> None:
        """Treat the refusal of a deleted experiment as temporary: it can be restored."""
        experiment = self.client.get_experiment(self._experiment_id)
        if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
            raise UnreachableError(
                f"the experiment {experiment.name} was deleted; restore it with: mlflow "
                f"experiments restore --experiment-id {self._experiment_id}"
            )

    def _with_key(self, key: str) -> list[Run]:
        return runs_of(self.client, self._experiment_id, {KEY_TAG: key})


@dataclass(frozen=True)
class Request:
    """Something to send about one run, which is identified by our key."""

    run: str

    @property
    def longest_text(self) -> int:  # in characters; a text cannot be sent in parts
        return 0

    def send(self, runs: Runs) -> None:
        """Send it to MLflow."""
        raise NotImplementedError


@dataclass(frozen=True)
class StartRun(Request):
    """A run starts; ``parent`` is the key of the run that it is nested in, if any."""

    name: str
    time_ms: int
    tags: Mapping[str, str]
    parent: str = ""

    def send(self, runs: Runs) -> None:
        runs.create(self)


@dataclass(frozen=True)
class ResumeRun(Request):
    """A run that has ended, or whose process has, resumes."""

    def send(self, runs: Runs) -> None:
        runs.client.update_run(runs.id_of(self.run), "RUNNING")


@dataclass(frozen=True)
class LogValues(Request):
    """Metrics, parameters and tags of a run; see ``values``."""

    items: Sequence[Metric | Param | RunTag]

    @property
    def longest_text(self) -> int:
        texts = (item.value for item in self.items if not isinstance(item, Metric))
        return max(map(len, texts), default=0)

    def send(self, runs: Runs) -> None:
        """Log them, in as many requests as MLflow's limits, or a proxy's, require."""
        try:
            self._send(runs)
        except MlflowException as error:
            middle = len(self.items) // 2
            if not is_too_large(error) or not middle:
                raise
            for half in (self.items[:middle], self.items[middle:]):
                LogValues(self.run, half).send(runs)

    def _send(self, runs: Runs) -> None:
        run_id = runs.id_of(self.run)
        newest = {item.key: item for item in self.items if isinstance(item, RunTag)}
        for metrics, params, tags in zip_longest(
            chunk_list([i for i in self.items if isinstance(i, Metric)], _METRICS_PER_REQUEST),
            chunk_list([i for i in self.items if isinstance(i, Param)], _OTHERS_PER_REQUEST),
            chunk_list(list(newest.values()), _OTHERS_PER_REQUEST),
            fillvalue=(),
        ):
            runs.client.log_batch(run_id, metrics, params, tags)


@dataclass(frozen=True)
class LogDataset(Request):
    """The data that a run uses, and what for; none of it is read here."""

    description: Any  # of whatever describes its data
    context: str

    def send(self, runs: Runs) -> None:
        about = self.description
        # The feature matrix in the form that MLflow's page can show.
        tensor = {"dtype": "float32", "shape": [-1, about.data_shape.get("feature_dim", -1)]}
        features = json.dumps([{"type": "tensor", "tensor-spec": tensor}])
        dataset = Dataset(
            name=about.dataset,
            digest=about.data_digest[:_DIGEST],
            source_type="local",
            source=json.dumps({"uri": about.data_source}),
            schema=json.dumps({"mlflow_tensorspec": {"features": features, "targets": None}}),
            profile=json.dumps(dict(about.data_shape)),
        )
        context = InputTag("mlflow.data.context", self.context)
        runs.client.log_inputs(runs.id_of(self.run), [DatasetInput(dataset, [context])])


@dataclass(frozen=True)
class LogText(Request):
    """A text becomes an artifact of a run; sending it again replaces it."""

    path: str
    text: str

    @property
    def longest_text(self) -> int:
        return len(self.text)

    def send(self, runs: Runs) -> None:
        runs.client.log_text(runs.id_of(self.run), self.text, self.path)


@dataclass(frozen=True)
class EndRun(Request):
    """A run ends with a status of ours, such as ``stopped_early``."""

    status: str
    time_ms: int

    def send(self, runs: Runs) -> None:
        """End the run, as FAILED if any request for it was refused."""
        run_id, status = runs.id_of(self.run), MLFLOW_STATUS[self.status]
        if problem := runs.problem_of(self.run):
            runs.client.set_tag(run_id, PROBLEM_TAG, problem)
            status = "FAILED" if status == "FINISHED" else status
        runs.client.set_terminated(run_id, status, self.time_ms)
        runs.delete_duplicates(self.run)


def values(
    run: str,
    time_ms: int,
    *,
    metrics: Mapping[str, float] = {},
    params: Mapping[str, Any] = {},
    tags: Mapping[str, str] = {},
    step: int = 0,
) -> LogValues:
    """Return a request with values of a run; a metric that is not finite is left out.

    Args:
        run: Our key of the run.
        time_ms: Their time, in milliseconds since 1970.
        metrics: By name.
        params: By name.
        tags: By name; empty ones are left out.
        step: The step of the metrics; 0 for figures of a whole run.
    """
    return LogValues(
        run,
        [
            *(Metric(n, float(v), time_ms, step) for n, v in metrics.items() if math.isfinite(v)),
            *(Param(name, _clipped(value, _MAX_PARAM)) for name, value in params.items()),
            *(RunTag(name, text) for name, text in _tags(tags).items()),
        ],
    )


def compact(requests: Sequence[Request]) -> list[Request]:
    """Merge the values of each run that can be sent together; each run's order is kept.

    Values move ahead only of other runs' requests: a run's start, input and end separate its own.
    """
    joined: list[Request] = []
    joining: dict[str, list[Metric | Param | RunTag]] = {}
    for request in requests:
        if not isinstance(request, LogValues):
            joining.pop(request.run, None)
            joined.append(request)
        elif request.run in joining:
            joining[request.run] += request.items
        else:
            joining[request.run] = list(request.items)
            joined.append(LogValues(request.run, joining[request.run]))
    return joined


def is_temporary(error: Exception) -> bool:
    """Return whether a failure may be temporary."""
    if isinstance(error, MlflowException):
        return error.error_code not in _FINAL_ERRORS
    return isinstance(error, OSError)


def is_too_large(error: Exception) -> bool:
    """Return whether a server, or a proxy in front of it, rejects a request of this size."""
    response = getattr(error, "response", None)  # of an upload
    return getattr(response, "status_code", 0) == _TOO_LARGE or _SAYS_TOO_LARGE in str(error)


def _tags(values: Mapping[str, str]) -> dict[str, str]:
    return {name: _clipped(text, _MAX_TAG) for name, text in values.items() if text}


def _clipped(value: Any, longest: int) -> str:
    """Return a value as a string no longer than MLflow keeps."""
    text = str(value).replace("\0", "\ufffd")  # PostgreSQL cannot store NUL
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
