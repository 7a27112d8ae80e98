"""Requests to MLflow, each of which can be sent again without being recorded twice.

A request carries its own time, so that sending it again says the same: a SQL store keeps a metric
of equal key, step, time and value once, accepts an equal parameter, overwrites a tag and recognises
a data set input by name and digest. Only creating a run is not repeatable, so a run carries a key
of ours by which a creation whose answer was lost is found again, also by a later process.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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

from tuning.events.projector import UnreachableError
from tuning.spec.objectives import DEFAULT_OBJECTIVE
from tuning.spec.records import OBJECTIVE_TAG, protocol_key
from tuning.tracking.store import DELIVERY_TIMEOUT_SECONDS, reason_of, short_requests

KEY_TAG = "run_key"
PROBLEM_TAG = "recording_problem"

# MLflow accepts 1000 metrics, 100 params and 100 tags a request, 1000 of them together, and 1 MB.
_METRICS_PER_REQUEST = 800
_PARAMS_PER_REQUEST = 50
_TAGS_PER_REQUEST = 50

_MAX_PARAM = 6000
_MAX_TAG = 8000
# MLflow keeps 36 characters and shows all of them in every row; its own digests have 8.
_DIGEST = 12

MLFLOW_STATUS: Mapping[str, str] = {
    "finished": "FINISHED",
    "stopped_early": "FINISHED",
    "infeasible": "FINISHED",  # a verdict on the configuration: nothing is there to mend
    "failed": "FAILED",
    "interrupted": "KILLED",
}
"""How MLflow shows each status; the exact one is in the tag ``status``."""

_logger = logging.getLogger(__name__)

_PLAIN = (str, int, float, bool)
_NOTHING: Mapping[str, Any] = {}
_TOO_LARGE = 413
_SMALL_TEXT = 1000  # a proxy that does not take this takes nothing for now
_SAYS_TOO_LARGE = f"failed with error code {_TOO_LARGE}"  # MLflow's words, in which it is left
_FINAL_ERRORS = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE"})


class TooLargeError(Exception):
    """A text is larger than a server, or a proxy before it, takes."""


class Runs:
    """The runs of one experiment that this process writes: a key of ours → MLflow's run.

    Args:
        client: Talks to the store.
        experiment_id: Where runs are created.
    """

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self.client = client
        self._experiment_id = experiment_id
        self._ids: dict[str, str] = {}
        self._attempts: Counter[str] = Counter()
        self._problems: dict[str, str] = {}

    def expect(self, keys: Iterable[str]) -> None:
        """Learn of runs that an earlier process created, or tried to."""
        self._attempts.update(list(keys))  # of a mapping it would count the values

    def send(self, request: Request) -> None:
        """Send one request; a refusal is remembered against its run.

        Raises:
            MlflowException, OSError: It was not accepted; ``is_passing`` says whether to try again.
            UnreachableError: Its experiment is deleted.
            TooLargeError: It never will be.
        """
        try:
            with short_requests(DELIVERY_TIMEOUT_SECONDS):
                request.send(self)
        except Exception as error:
            if is_too_large(error) and request.longest_text > _SMALL_TEXT:
                raise self._too_large(request) from error
            if not is_passing(error):
                self._check_experiment(error)
                self._problems.setdefault(request.run, str(error))
            raise

    def _too_large(self, request: Request) -> TooLargeError:
        error = TooLargeError(
            f"error code {_TOO_LARGE}: a text of {request.longest_text} characters is too large; "
            "raise the limit of the proxy before the server, such as nginx's client_max_body_size"
        )
        self._problems.setdefault(request.run, str(error))
        return error

    def _check_experiment(self, error: Exception) -> None:
        """Take the refusal of a deleted experiment for one that passes: it can be restored."""
        with short_requests(DELIVERY_TIMEOUT_SECONDS):
            experiment = self.client.get_experiment(self._experiment_id)
        if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
            raise UnreachableError(
                f"the experiment {experiment.name} was deleted; mlflow experiments restore "
                f"--experiment-id {self._experiment_id} brings it back"
            ) from error

    def id_of(self, key: str) -> str:
        """Return MLflow's id of a run.

        Raises:
            LookupError: There is no such run.
        """
        if key not in self._ids and self._attempts[key] and (found := self._with_key(key)):
            self._ids[key] = found[0].info.run_id
        if key not in self._ids:
            raise LookupError(f"its run was not created: {self._problems.get(key, 'not yet')}")
        return self._ids[key]

    def known_id_of(self, key: str) -> str:
        """Return MLflow's id of a run without asking for it; empty where that is not known."""
        return self._ids.get(key, "")

    def problem_of(self, key: str) -> str:
        """Return why something of this run was refused, or nothing."""
        return self._problems.get(key, "")

    def create(self, start: StartRun) -> None:
        """Create a run, unless an earlier attempt did so and only its answer was lost."""
        if start.run in self._ids:
            return
        found = self._with_key(start.run) if self._attempts[start.run] else []
        self._attempts[start.run] += 1
        run = found[0] if found else self._create(start)
        self._ids[start.run] = run.info.run_id

    def delete_strays(self, key: str) -> None:
        """Delete what a creation left that arrived after it had been given up for lost."""
        for run in self._with_key(key) if self._attempts[key] > 1 else []:
            if run.info.run_id != self._ids[key]:
                self.client.delete_run(run.info.run_id)

    def nested_in(self, run_id: str) -> Iterator[Run]:
        """Yield the runs that are nested in one of MLflow's runs."""
        condition, token = f"tags.`mlflow.parentRunId` = '{run_id}'", None
        while True:
            page = self.client.search_runs(
                [self._experiment_id], filter_string=condition, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _create(self, start: StartRun) -> Run:
        parent = {"mlflow.parentRunId": self.id_of(start.parent)} if start.parent else {}
        return self.client.create_run(
            self._experiment_id,
            start_time=start.time_ms,
            tags=_tags({**start.tags, **parent, KEY_TAG: start.run}),
            run_name=start.name,
        )

    def _with_key(self, key: str) -> list[Run]:
        return list(
            self.client.search_runs(
                [self._experiment_id], filter_string=f"tags.{KEY_TAG} = '{key}'"
            )
        )


@dataclass(frozen=True)
class Request:
    """Something that is told of one run.

    Attributes:
        run: Our key of the run.
    """

    run: str

    @property
    def longest_text(self) -> int:
        """Return the characters of its longest text, which cannot be sent in parts."""
        return 0

    def send(self, runs: Runs) -> None:
        """Tell it to MLflow."""
        raise NotImplementedError


@dataclass(frozen=True)
class StartRun(Request):
    """A run starts; ``parent`` is the key of the run that it is nested in, if any."""

    name: str
    time_ms: int
    tags: Mapping[str, str]
    parent: str = ""

    def send(self, runs: Runs) -> None:
        """Create the run."""
        runs.create(self)


@dataclass(frozen=True)
class ResumeRun(Request):
    """A run that has ended, or whose process has, goes on."""

    def send(self, runs: Runs) -> None:
        """Show the run as running."""
        runs.client.update_run(runs.id_of(self.run), "RUNNING")


@dataclass(frozen=True)
class Point:
    """One value of a metric; the time is in milliseconds since 1970."""

    name: str
    value: float
    step: int
    time_ms: int


@dataclass(frozen=True)
class LogValues(Request):
    """Metrics, parameters and tags of a run."""

    points: Sequence[Point] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def send(self, runs: Runs) -> None:
        """Log it, in as many requests as the limits ask for."""
        try:
            self._send(runs)
        except MlflowException as error:
            if not is_too_large(error) or self._size < 2:
                raise
            for half in self._halves():
                half.send(runs)

    @property
    def longest_text(self) -> int:
        """Return the characters of its longest text, which cannot be sent in parts."""
        texts = [*self.params.values(), *self.tags.values()]
        return max((len(str(text)) for text in texts), default=0)

    @property
    def _size(self) -> int:
        return len(self.points) + len(self.params) + len(self.tags)

    def _halves(self) -> Iterator[LogValues]:
        """Yield two requests that say together what this one says."""
        params, tags = list(self.params.items()), list(self.tags.items())
        cut = self._size // 2
        for low, high in ((0, cut), (cut, self._size)):
            of_params, of_tags = low - len(self.points), low - len(self.points) - len(params)
            length = high - low
            yield LogValues(
                self.run,
                self.points[low:high],
                dict(params[max(0, of_params) : max(0, of_params + length)]),
                dict(tags[max(0, of_tags) : max(0, of_tags + length)]),
            )

    def _send(self, runs: Runs) -> None:
        run_id = runs.id_of(self.run)
        metrics = [Metric(p.name, p.value, p.time_ms, p.step) for p in self.points]
        params = [Param(*item) for item in _clipped(self.params, _MAX_PARAM).items()]
        tags = [RunTag(*item) for item in _tags(self.tags).items()]
        for batch in itertools.zip_longest(
            _chunks(metrics, _METRICS_PER_REQUEST),
            _chunks(params, _PARAMS_PER_REQUEST),
            _chunks(tags, _TAGS_PER_REQUEST),
            fillvalue=(),
        ):
            runs.client.log_batch(run_id, *batch)


@dataclass(frozen=True)
class LogDataset(Request):
    """The data that a run learns from, and what for; nothing of it is read here."""

    description: Any  # of whatever describes its data
    context: str

    def send(self, runs: Runs) -> None:
        """Log the data set as the run's input."""
        about = self.description
        dataset = Dataset(
            name=about.dataset,
            digest=about.data_digest[:_DIGEST],
            source_type="local",
            source=json.dumps({"uri": about.data_source}),
            schema=_tensor_schema(about.data_shape),
            profile=json.dumps(dict(about.data_shape)),
        )
        context = InputTag("mlflow.data.context", self.context)
        runs.client.log_inputs(runs.id_of(self.run), [DatasetInput(dataset, [context])])


@dataclass(frozen=True)
class LogText(Request):
    """A text becomes an artifact of a run; sent again, it replaces itself."""

    path: str
    text: str

    @property
    def longest_text(self) -> int:
        """Return the characters of the text, which cannot be sent in parts."""
        return len(self.text)

    def send(self, runs: Runs) -> None:
        """Upload the text."""
        runs.client.log_text(runs.id_of(self.run), self.text, self.path)


@dataclass(frozen=True)
class EndRun(Request):
    """A run ends with one of MLflow's statuses: FINISHED, FAILED or KILLED."""

    status: str
    time_ms: int

    def send(self, runs: Runs) -> None:
        """End the run; as FAILED where something of it was refused."""
        run_id, problem = runs.id_of(self.run), runs.problem_of(self.run)
        if problem:
            runs.client.set_tag(run_id, PROBLEM_TAG, problem[:_MAX_TAG])
        status = "FAILED" if problem and self.status == "FINISHED" else self.status
        runs.client.set_terminated(run_id, status, self.time_ms)
        runs.delete_strays(self.run)


def values(
    run: str,
    time_ms: int,
    *,
    metrics: Mapping[str, float] = _NOTHING,
    params: Mapping[str, Any] = _NOTHING,
    tags: Mapping[str, str] = _NOTHING,
    step: int = 0,
) -> LogValues:
    """Return a request with values of a run; a metric that is not finite is left out.

    Args:
        run: Our key of the run.
        time_ms: When they were so, in milliseconds since 1970.
        metrics: Name → value.
        params: Name → value; what is no plain value becomes its string.
        tags: Name → text.
        step: The step of the metrics; 0 is that of figures of a whole run.
    """
    points = tuple(
        Point(name, float(value), step, time_ms)
        for name, value in metrics.items()
        if math.isfinite(value)
    )
    plain = {name: v if isinstance(v, _PLAIN) else str(v) for name, v in params.items()}
    return LogValues(run, points, plain, dict(tags))


def ended(run: str, status: str, time_ms: int) -> EndRun:
    """Return the end of a run by one of our statuses; what is sent before it arrives before it."""
    return EndRun(run, MLFLOW_STATUS[status], time_ms)


def common_tags(
    *,
    dataset: str,
    study: str,
    protocol: Mapping[str, Any],
    data_digest: str,
    objective: str = DEFAULT_OBJECTIVE,
) -> dict[str, str]:
    """Return the tags that every run of a study has."""
    return {
        "study": study,
        "dataset": dataset,
        "protocol_key": protocol_key(protocol),
        "data_digest": data_digest,
        OBJECTIVE_TAG: objective,
    }


class Sender:
    """Sends requests in order, each again until it has arrived or was refused.

    Attributes:
        runs: The runs that they are of.
        waiting: Those that have not arrived.
        refused: Those that were refused, and why.
        abandoned: Whether no more is sent.
    """

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self.waiting: list[Request] = []
        self.refused: list[tuple[Request, str]] = []
        self.abandoned = False

    def put(self, *requests: Request) -> None:
        """Accept requests, to be sent after those that wait."""
        self.waiting += requests

    def flush(self) -> None:
        """Send what waits.

        Raises:
            UnreachableError: The store did not take one of them now; it and the later ones wait.
        """
        self.waiting = compact(self.waiting)
        while self.waiting:
            if self.abandoned:
                raise UnreachableError("time was up")
            try:
                self.runs.send(self.waiting[0])
            except UnreachableError:
                raise
            except Exception as error:
                reason = reason_of(error)
                if is_passing(error):
                    raise UnreachableError(reason) from error
                self.refused.append((self.waiting[0], reason))
                _logger.warning("the tracking store refused a request: %s", reason)
            del self.waiting[0]


def compact(requests: Sequence[Request]) -> list[Request]:
    """Join the values of each run that can travel together; each run's order stays.

    Values move ahead of other runs' requests only: a run's start, input and end part its values.
    """
    groups: list[list[Request]] = []
    joining: dict[str, list[Request]] = {}
    for request in requests:
        if not isinstance(request, LogValues):
            joining.pop(request.run, None)
            groups.append([request])
        elif request.run in joining:
            joining[request.run].append(request)
        else:
            joining[request.run] = [request]
            groups.append(joining[request.run])
    return [_joined(group) for group in groups]


def is_passing(error: Exception) -> bool:
    """Say whether a failure may be gone the next time."""
    if isinstance(error, MlflowException):
        return error.error_code not in _FINAL_ERRORS
    return isinstance(error, OSError)


def is_too_large(error: Exception) -> bool:
    """Say whether a server, or a proxy before it, takes no request of this size."""
    response = getattr(error, "response", None)  # of an upload
    return getattr(response, "status_code", 0) == _TOO_LARGE or _SAYS_TOO_LARGE in str(error)


def _joined(group: Sequence[Request]) -> Request:
    if len(group) == 1:
        return group[0]
    logs = [request for request in group if isinstance(request, LogValues)]
    return LogValues(
        run=group[0].run,
        points=tuple(_chain(log.points for log in logs)),
        params=dict(_chain(log.params.items() for log in logs)),
        tags=dict(_chain(log.tags.items() for log in logs)),
    )


def _tags(values: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that say something."""
    return {name: text for name, text in _clipped(values, _MAX_TAG).items() if text}


def _clipped(values: Mapping[str, Any], longest: int) -> dict[str, str]:
    """Return the values as strings no longer than MLflow keeps."""
    # PostgreSQL keeps no zero character.
    texts = {name: str(value).replace("\0", "\ufffd") for name, value in values.items()}
    return {
        name: text if len(text) <= longest else f"{text[: longest - 1]}…"
        for name, text in texts.items()
    }


def _chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _chain(parts: Iterator[Any]) -> Iterator[Any]:
    return itertools.chain.from_iterable(parts)


def _tensor_schema(shape: Mapping[str, int]) -> str:
    """Return the schema of the feature matrix in the form that MLflow's UI can show."""
    tensor = {"dtype": "float32", "shape": [-1, shape.get("feature_dim", -1)]}
    features = json.dumps([{"type": "tensor", "tensor-spec": tensor}])
    return json.dumps({"mlflow_tensorspec": {"features": features, "targets": None}})
