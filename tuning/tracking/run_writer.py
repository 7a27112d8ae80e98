"""Write one run and the runs nested in it: created at once, then delivered in the background.

With a journal, what is not delivered when the process ends is delivered by a later one.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException

from mianet.addresses import without_credentials
from mianet.errors import InputError
from tuning.events.journal import Journal
from tuning.spec.errors import RecordingError
from tuning.spec.objectives import DEFAULT_OBJECTIVE
from tuning.spec.provenance import provenance_tags
from tuning.spec.records import NOTE_TAG, OBJECTIVE_TAG, listed, protocol_key
from tuning.tracking.delivery import Delivery, Outcome
from tuning.tracking.outbox import Outbox
from tuning.tracking.run_messages import (
    EndRun,
    LogDataset,
    LogValues,
    Point,
    RunMessage,
    Runs,
    StartRun,
    compact,
    decoded,
    encoded,
    is_passing,
    now_ms,
)
from tuning.tracking.store import (
    OPEN_TIMEOUT_SECONDS,
    TrackingStore,
    reason_of,
    short_requests,
)

MLFLOW_STATUS: Mapping[str, str] = MappingProxyType(
    {
        "finished": "FINISHED",
        "stopped_early": "FINISHED",
        "infeasible": "FINISHED",  # a verdict on the configuration: nothing is there to mend
        "failed": "FAILED",
        "interrupted": "KILLED",
    }
)
"""How MLflow shows each status; the exact one is in the tag ``status``."""

_PLAIN = (str, int, float, bool)

CLOSE_DEADLINE_SECONDS = 60.0
HURRIED_DEADLINE_SECONDS = 5.0
DELIVER_COMMAND = "python tuning/deliver.py --storage <folder>"

EXPERIMENT_PREFIX = "mianet-"


class RunWriter:
    """Writes a run and the runs nested in it.

    Args:
        store: Where to.
        experiment: In which experiment.
        start: The run itself, created before this returns.
        journal: Where to keep what is told until it is delivered; None for memory only. A journal
            with messages in it is gone on with: ``start`` is then its first message.

    Raises:
        InputError: The store does not accept the run, or no longer has it.
    """

    def __init__(
        self,
        store: TrackingStore,
        experiment: Experiment,
        start: StartRun,
        journal: Journal | None = None,
    ) -> None:
        self._store = store
        self._experiment = experiment
        self._names = {start.run: start.name}
        self._runs = Runs(store.client, experiment.experiment_id)
        self._journal = journal
        self.closed = False
        waiting: list[RunMessage] = self._journalled(journal, start) if journal else [start]
        if waiting[:1] == [start]:
            self._create(start, journal)
            del waiting[0]
        self.run_id = self._found(start)
        self._outbox: Outbox | Delivery[RunMessage] = (
            Outbox(journal, self._delivery, waiting) if journal else delivery_of(self._runs.send)
        )

    @property
    def location(self) -> str:
        """Return where a person finds the run: an address, or the command that shows it."""
        return location_of(self._store, self._experiment, self.run_id)

    def known_run_id(self, key: str) -> str:
        """Return MLflow's id of a run nested in this one; empty as long as it is not known."""
        return self._runs.known_id_of(key)

    def deadline_of(self, status: str) -> float:
        """Return how long to wait at the end: a user's interrupt can count on the journal."""
        in_a_hurry = status == "interrupted" and self._journal is not None
        return HURRIED_DEADLINE_SECONDS if in_a_hurry else CLOSE_DEADLINE_SECONDS

    def put(self, *messages: RunMessage) -> None:
        """Accept messages at once; the journal gets all of them or none.

        Raises:
            RuntimeError: The writer is closed.
        """
        if self.closed:
            raise RuntimeError("nothing can be recorded after close()")
        self._names |= {m.run: m.name for m in messages if isinstance(m, StartRun)}
        self._outbox.put(*messages)

    def close(self, deadline_seconds: float) -> None:
        """Deliver what is left.

        Raises:
            RecordingError: Something was refused, or did not arrive before the deadline.
        """
        self.closed = True
        outcome = self._outbox.close(deadline_seconds)
        if outcome.undelivered or outcome.refused:
            raise RecordingError(self._loss(outcome, deadline_seconds))

    def _journalled(self, journal: Journal, start: StartRun) -> list[RunMessage]:
        """Return what the journal has not delivered; a new one begins with the run itself."""
        if not journal.records:
            journal.begin(about_journal(self._store, self._experiment, start.name), encoded(start))
            return [start]
        earlier = [decoded(record) for record in journal.records]
        self._names |= {m.run: m.name for m in earlier if isinstance(m, StartRun)}
        self._runs.expect(self._names)
        journal.describe(about_journal(self._store, self._experiment, start.name))
        return earlier[journal.delivered :]

    def _create(self, start: StartRun, journal: Journal | None) -> None:
        try:
            with short_requests(OPEN_TIMEOUT_SECONDS):
                start.send(self._runs)
        except (MlflowException, OSError) as error:
            raise refused_by(self._store, "a new run", error) from error
        if journal:
            journal.mark_delivered(1)

    def _found(self, start: StartRun) -> str:
        try:
            with short_requests(OPEN_TIMEOUT_SECONDS):
                return self._runs.id_of(start.run)
        except LookupError as error:
            raise InputError(
                f"{start.name} must be in the tracking store to go on, but "
                f"{self._store.uri} does not have it; give the --tracking-uri that it "
                "was recorded to"
            ) from error
        except (MlflowException, OSError) as error:
            raise refused_by(self._store, "a search for a run", error) from error

    def _delivery(
        self, before: Callable[[], None], delivered: Callable[[int], None]
    ) -> Delivery[RunMessage]:
        def send(message: RunMessage) -> None:
            before()
            self._runs.send(message)

        return delivery_of(send, delivered)

    def _loss(self, outcome: Outcome[RunMessage], deadline_seconds: float) -> str:
        uri = without_credentials(self._store.uri)
        lines = [
            f"{uri} refused a part of {self._names[refusal.message.run]} ({refusal.reason})"
            for refusal in outcome.refused
        ]
        if outcome.undelivered:
            names = dict.fromkeys(self._names[message.run] for message in outcome.undelivered)
            lines.append(
                f"{uri} must accept what was recorded, but did not within {deadline_seconds:g} s "
                f"({outcome.reason or 'it is slow'}): the record is incomplete, and may show as "
                f"running, for {listed(list(names))}" + self._remedy()
            )
        return "; ".join(lines)

    def _remedy(self) -> str:
        if self._journal is None:
            return ""
        if problem := getattr(self._outbox, "problem", ""):
            return f"; nor could all of it be kept in {self._journal.folder} ({problem})"
        return (
            f"; it is kept in {self._journal.folder}, and the next search or final training with "
            f"this --storage delivers it, or: {DELIVER_COMMAND}"
        )


def location_of(store: TrackingStore, experiment: Experiment, run_id: str) -> str:
    """Return where a person finds a run: an address, or the command that shows it."""
    uri = without_credentials(store.uri).rstrip("/")
    if store.artifact_root is not None:
        return f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
    run = f"experiments/{experiment.experiment_id}/runs/{run_id}"
    return f"{uri}/#/{run}?workflowType=machine_learning"


def about_journal(store: TrackingStore, experiment: Experiment, name: str) -> dict[str, str]:
    """Return what a later process must know to deliver a journal; no password is in it."""
    return {
        "tracking_uri": without_credentials(store.uri),
        "experiment": experiment.name,
        "name": name,
    }


def delivery_of(
    send: Callable[[RunMessage], None], delivered: Callable[[int], None] = lambda count: None
) -> Delivery[RunMessage]:
    """Return a delivery of messages to MLflow."""
    return Delivery(
        send,
        compact=compact,
        passing=is_passing,
        explain=reason_of,
        delivered=delivered,
        receiver="tracking store",
    )


def values(
    run: str,
    *,
    metrics: Mapping[str, float] = MappingProxyType({}),
    params: Mapping[str, Any] = MappingProxyType({}),
    tags: Mapping[str, str] = MappingProxyType({}),
    step: int = 0,
) -> LogValues:
    """Return a message with values of a run; a metric that is not finite is left out."""
    time_ms = now_ms()
    points = tuple(
        Point(name, float(value), step, time_ms)
        for name, value in metrics.items()
        if math.isfinite(value)
    )
    plain = {name: v if isinstance(v, _PLAIN) else str(v) for name, v in params.items()}
    return LogValues(run, points, plain, dict(tags))


def end(run: str, status: str) -> EndRun:
    """Return the end of a run; everything put before it arrives before it."""
    return EndRun(run, MLFLOW_STATUS[status], now_ms())


def experiment_name(dataset: str) -> str:
    """Return the experiment of a data set: ``mianet-awa1``, ``mianet-synthetic-apy``."""
    return EXPERIMENT_PREFIX + re.sub(r"[^a-z0-9._-]+", "-", dataset.lower())


def experiment_for(store: TrackingStore, dataset: str) -> Experiment:
    """Return the experiment of a data set, created where there is none.

    Raises:
        InputError: It was deleted in MLflow, or the store does not accept it.
    """
    name = experiment_name(dataset)
    location = store.artifact_root and f"{store.artifact_root}/{name}"
    try:
        with short_requests(OPEN_TIMEOUT_SECONDS):
            experiment = store.client.get_experiment_by_name(name)
            if experiment is None:
                _create_experiment(store, dataset, location)
                experiment = store.client.get_experiment_by_name(name)
    except (MlflowException, OSError) as error:
        raise refused_by(store, f"the experiment {name}", error) from error
    if experiment is None or experiment.lifecycle_stage != "active":
        number = experiment.experiment_id if experiment else "?"
        raise InputError(
            f"the experiment {name} must be active, but it was deleted in MLflow; bring it back "
            f"with: mlflow experiments restore --experiment-id {number}"
        )
    return experiment


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
        **provenance_tags(),
    }


def dataset_message(run: str, description: Any, context: str) -> LogDataset:
    """Return the data set input of a run, from anything that describes its data."""
    return LogDataset(
        run,
        name=description.dataset,
        digest=description.data_digest,
        source=description.data_source,
        shape=dict(description.data_shape),
        context=context,
    )


def refused_by(store: TrackingStore, what: str, error: BaseException) -> InputError:
    """Return the error of a store that answers but does not do what is asked."""
    return InputError(
        f"the tracking store must accept {what}, but {without_credentials(store.uri)} does not "
        f"({reason_of(error)}); mend it, or give another --tracking-uri"
    )


def _create_experiment(store: TrackingStore, dataset: str, location: str | None) -> None:
    # Without its kind MLflow shows the experiment as one of language models.
    tags = {
        "mlflow.experimentKind": "custom_model_development",
        NOTE_TAG: f"Hyperparameter searches of MIANet on {dataset}: a run a study, its trials and "
        "final trainings nested in it.",
    }
    try:
        store.client.create_experiment(
            experiment_name(dataset), artifact_location=location, tags=tags
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
            raise
