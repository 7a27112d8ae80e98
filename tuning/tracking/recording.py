"""Record a log in MLflow while it grows.

A study is one parent run in the experiment of its data set; each trial, confirmation and final
training is a run nested in it. The process that drives the work records, the workers never do. What
happens goes to the log; a thread tells MLflow about once a second, so a slow or absent server holds
nobody up.
"""

from __future__ import annotations

import atexit
import contextlib
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from mlflow.entities import Experiment

from mianet.addresses import without_credentials
from tuning.events.event import Closed, Event, FinalStarted, Opened, Opening
from tuning.events.log import EventLog, hold, waiting_in
from tuning.events.projector import CLOSE_SECONDS, Projector
from tuning.spec.errors import RecordingError
from tuning.spec.provenance import provenance_tags
from tuning.spec.records import FinalDescription, StudyDescription, listed
from tuning.tracking.closing import Closing
from tuning.tracking.experiments import experiment_for
from tuning.tracking.final_projection import FinalProjection
from tuning.tracking.run_projection import RunProjection
from tuning.tracking.store import TrackingStore, open_store
from tuning.tracking.study_projection import StudyProjection, trial_key
from tuning.tracking.views import Links, links_to, save_view

HURRIED_CLOSE_SECONDS = 5.0
"""How long an interrupted process waits for the store: the log keeps the rest."""

DELIVER_COMMAND = "python tuning/deliver.py --storage <folder>"

_NOTHING: Mapping[str, Any] = {}


class Recording(Closing):
    """A log that is recorded. As a context manager it leaves no run running.

    Args:
        log: The log.
        opening: What this process does with it; appended first.
        projection: What the store is told of it.
        store: The store.
        experiment: The experiment there.

    Attributes:
        run_id: MLflow's run of what the log is about.

    Raises:
        InputError: The disk does not take the log, in which case a new one is deleted; or the store
            does not accept the run, or does not have it any more.
    """

    def __init__(
        self,
        log: EventLog,
        opening: Opening,
        projection: RunProjection,
        store: TrackingStore,
        experiment: Experiment,
    ) -> None:
        self._log, self._projection, self._store = log, projection, store
        self._key = opening.key
        self.run_id = self._begin(opening)
        self._experiment = experiment
        self._projector = Projector(log, projection)
        self._projector.start()
        self._closed = False
        atexit.register(self._close_at_exit)

    @classmethod
    def of_study(
        cls,
        tracking_uri: str,
        log: EventLog,
        description: StudyDescription,
        *,
        settings: Mapping[str, Any] = _NOTHING,
        hyperparameters: Mapping[str, Any] = _NOTHING,
        device: str = "",
    ) -> Self:
        """Open a study's log, and its run; a log with a study in it goes on in the same runs.

        Args:
            tracking_uri: The store.
            log: The study's log.
            description: What is known of the study.
            settings: What ``--resume`` needs.
            hyperparameters: Those that all trials share, and the searched ones' defaults.
            device: Where trials train.

        Raises:
            InputError: The store does not answer or cannot be written to; found in seconds. Or the
                log cannot be written, or its study is not in the store. A new log is deleted.
        """
        store = open_store(tracking_uri)
        experiment = experiment_for(store, description.dataset)
        opened = Opened(
            key=log.state.opening.key if log.state.opening else uuid.uuid4().hex,
            description=description,
            tracking_uri=without_credentials(store.uri),
            experiment=experiment.name,
            provenance=provenance_tags(),
            settings=settings,
            hyperparameters=hyperparameters,
            device=device,
        )
        save_view(store, experiment, description)
        projection = StudyProjection(log, store, experiment.experiment_id)
        return cls(log, opened, projection, store, experiment)

    @classmethod
    def of_final(
        cls, tracking_uri: str, log: EventLog, description: FinalDescription, key: str
    ) -> Self:
        """Open the log of a final training or a confirmation, and its run; see ``of_study``."""
        store = open_store(tracking_uri)
        experiment = experiment_for(store, description.dataset)
        started = FinalStarted(
            key=key,
            description=description,
            tracking_uri=without_credentials(store.uri),
            experiment=experiment.name,
            provenance=provenance_tags(),
        )
        projection = FinalProjection(log, store, experiment.experiment_id)
        return cls(log, started, projection, store, experiment)

    @property
    def links(self) -> Links:
        """Return where a person finds the study."""
        return links_to(self._store, self._experiment, self._name_of(self._key))

    def run_of(self, number: int) -> str:
        """Return MLflow's run of a trial; empty as long as the store has not been told of it."""
        return self._projection.runs.known_id_of(trial_key(self._key, number))

    def append(self, event: Event) -> None:
        """Append an event to the log."""
        self._log.append(event)

    def close(
        self,
        status: str = "finished",
        *,
        note: str = "",
        summary: Mapping[str, float] = _NOTHING,
        deadline_seconds: float | None = None,
    ) -> None:
        """End what is recorded, unless its log says that it has ended, and deliver everything.

        A second call does nothing.

        Args:
            status: ``finished``, ``failed`` or ``interrupted``.
            note: Why, or what else there is to say, for a person.
            summary: Figures of all of it.
            deadline_seconds: How long to wait for a store that does not answer; by default a
                minute, or a few seconds where it was interrupted.

        Raises:
            RecordingError: Something did not reach the store; says what and why.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._close_at_exit)
        closed = self._log.state.closed or Closed(status, note, summary)
        if closed is not self._log.state.closed:
            self._log.append(closed)
        if deadline_seconds is None:
            is_hurried = closed.status == "interrupted"
            deadline_seconds = HURRIED_CLOSE_SECONDS if is_hurried else CLOSE_SECONDS
        self._projector.close(deadline_seconds)
        if loss := self._loss(deadline_seconds):
            raise RecordingError(loss)

    def _begin(self, opening: Opening) -> str:
        """Open the log and find the run, neither without the other; return MLflow's id of it."""
        if self._log.found:
            run_id = self._projection.start(opening)
            self._log.begin(opening)
            return run_id
        try:
            self._log.begin(opening)
            return self._projection.start(opening)
        except BaseException:
            self._log.discard()
            raise

    def _close_at_exit(self) -> None:
        self.close_quietly("interrupted", "The process ended before its work did.")

    def _loss(self, deadline_seconds: float) -> str:
        """Return what did not reach the store, and why; empty where all of it did."""
        uri = without_credentials(self._store.uri)
        lines = [
            f"{uri} refused a part of {self._name_of(request.run)} ({reason})"
            for request, reason in self._projection.sender.refused
        ]
        if not self._projector.has_all:
            keys = dict.fromkeys(map(self._key_of, self._undelivered()))
            lines.append(
                f"{uri} must accept what was recorded, but did not within {deadline_seconds:g} s "
                f"({self._projector.reason or 'it is slow'}): the record is incomplete, and may "
                f"show as running, for {listed(list(map(self._name_of, keys)))}{self._remedy()}"
            )
        return "; ".join(lines)

    def _undelivered(self) -> Iterator[Event]:
        start = max(self._projector.end, self._projection.cursor)
        yield from (event for event, _ in self._log.read(start))
        yield from self._log.unkept

    def _key_of(self, event: Event) -> str:
        number = getattr(event, "number", None)
        return self._key if number is None else trial_key(self._key, number)

    def _name_of(self, key: str) -> str:
        return self._projection.name_of(key, self._log.state)

    def _remedy(self) -> str:
        if self._log.problem:
            return f"; nor could all of it be kept in {self._log.path} ({self._log.problem})"
        return (
            f"; it is kept in {self._log.path}, and the next search or final training with this "
            f"--storage delivers it, or: {DELIVER_COMMAND}"
        )


@contextmanager
def recorded_final(
    tracking_uri: str, description: FinalDescription, storage: Path
) -> Iterator[Recording]:
    """Record a final training or a confirmation; its log is deleted once MLflow has all of it.

    Args:
        tracking_uri: The store.
        description: What is known of it.
        storage: Folder of studies, in whose folders logs are.

    Raises:
        InputError: The store does not answer or cannot be written to; found in seconds.
        RecordingError: Something did not reach the store; says what and why.
    """
    key = uuid.uuid4().hex
    folder = storage / (description.study or "final") / f"{description.kind}-{key}"
    with hold(folder) as log:
        try:
            with Recording.of_final(tracking_uri, log, description, key) as recording:
                yield recording
        finally:
            if not waiting_in(folder):
                discard_final(log)


def discard_final(log: EventLog) -> None:
    """Delete the log of a final training, and the study's folder and the storage where empty."""
    log.discard()
    with contextlib.suppress(OSError):
        log.folder.parent.rmdir()
        log.folder.parent.parent.rmdir()
