"""Record a log in MLflow while it grows.

A study is one parent run in the experiment of its data set; each trial, confirmation and final
training is a run nested in it. Only the process that drives the work records, never the workers.
Events go to the log; a thread updates MLflow about once a second, so a slow or absent server delays
nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from mlflow.exceptions import MlflowException

from tuning.events.event import Closed, Event, Opened
from tuning.events.log import EventLog, count_waiting, open_log
from tuning.events.projector import CLOSE_SECONDS, Projector
from tuning.spec.errors import RecordingError
from tuning.spec.provenance import provenance_tags
from tuning.spec.records import Description, FinalDescription, StudyDescription, listed
from tuning.tracking.experiments import experiment_for, links_to, save_view
from tuning.tracking.projections import FinalProjection, RunProjection, StudyProjection, trial_key
from tuning.tracking.store import open_store, reason_of

HURRIED_CLOSE_SECONDS = 5.0
"""How long an interrupted process waits for the store: the log keeps the rest."""

PROJECTIONS: Mapping[type[Description], type[RunProjection]] = {
    StudyDescription: StudyProjection,
    FinalDescription: FinalProjection,
}
"""What a log is about → how it is projected to MLflow."""

_logger = logging.getLogger(__name__)


class Recorder(ABC):
    """A context manager that ends a record: however its block ends, no run is left running."""

    @abstractmethod
    def close(self, status: str = "finished", *, note: str = "") -> Any:
        """End the record as ``finished``, ``failed`` or ``interrupted``, with a note saying why."""

    def close_quietly(self, status: str, note: str) -> None:
        """Close; if that fails, only log it, since what ended the work matters more."""
        try:
            self.close(status, note=note)
        except RecordingError as loss:
            _logger.error("%s", loss)  # noqa: TRY400

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            self.close()
            return
        status = "failed" if isinstance(error, Exception) else "interrupted"
        self.close_quietly(status, f"Ended by {type(error).__name__}: {error}")


class Recording(Recorder):
    """A log being recorded: its run, and what is nested in it.

    A log that is not empty continues in the same runs.

    Args:
        tracking_uri: The store.
        log: The log.
        description: What it is about.
        more: Further fields of ``Opened``.

    Raises:
        InputError: The store does not answer or cannot be written to, which is found in seconds; or
            the log cannot be written, or its run is not in the store. A new log is deleted.
    """

    def __init__(
        self,
        tracking_uri: str,
        log: EventLog,
        description: StudyDescription | FinalDescription,
        **more: Any,
    ) -> None:
        store = open_store(tracking_uri)
        experiment = experiment_for(store, description.dataset)
        if isinstance(description, StudyDescription):
            save_view(store, experiment, description)
        opening = Opened(
            key=log.state.opening.key if log.state.opening else uuid.uuid4().hex,
            description=description,
            tracking_uri=store.shown,
            experiment=experiment.name,
            provenance=provenance_tags(),
            **more,
        )
        self._log, self._key, self._uri = log, opening.key, store.shown
        kind = PROJECTIONS[type(description)]
        self._projection = kind(log, store, experiment.experiment_id)
        self.run_id = self._begin(opening)  # the log's run in MLflow
        self.links = links_to(store, experiment, description.name)
        self._projector = Projector(log, self._projection)
        self._projector.start()
        self._closed = False
        atexit.register(self._close_at_exit)

    def run_of(self, number: int) -> str:
        """Return MLflow's run of a trial; empty until the store has been told of it."""
        return self._projection.runs.ids.get(trial_key(self._key, number), "")

    def append(self, event: Event) -> None:
        self._log.append(event)

    def close(self, status: str = "finished", *, note: str = "") -> None:
        """End the record, unless its log says that it has ended, and deliver everything.

        Wait a minute for a store that accepts nothing, or a few seconds after an interrupt.
        A second call does nothing. A ``RecordingError`` says what did not reach the store, and why.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._close_at_exit)
        closed = self._log.state.closed or Closed(status, note)
        if closed is not self._log.state.closed:
            self._log.append(closed)
        hurried = closed.status == "interrupted"
        deadline = HURRIED_CLOSE_SECONDS if hurried else CLOSE_SECONDS
        self._projector.close(deadline, once=hurried)
        if loss := self._loss(deadline):
            raise RecordingError(loss)

    def _begin(self, opening: Opened) -> str:
        """Open the log and find the run, both or neither; return the run's MLflow id."""
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
        name_of = self._projection.name_of
        lines = [
            f"{self._uri} refused a part of {name_of(request.run)} ({reason})"
            for request, reason in self._projection.runs.refused
        ]
        if not self._projector.has_all:
            names = list(dict.fromkeys(map(name_of, self._undelivered())))
            lines.append(
                f"{self._uri} must accept what was recorded, but did not within "
                f"{deadline_seconds:g} s ({self._projector.reason or 'it is slow'}): the record is "
                f"incomplete, and may show as running, for {listed(names)}; {self._remedy()}"
            )
        return "; ".join(lines)

    def _undelivered(self) -> Iterator[str]:
        """Yield our keys of the runs that did not reach the store in full."""
        start = max(self._projector.end, self._projection.cursor)
        for event in [*(event for event, _ in self._log.read(start)), *self._log.unsaved]:
            number = getattr(event, "number", None)
            yield self._key if number is None else trial_key(self._key, number)

    def _remedy(self) -> str:
        if self._log.problem:
            return f"and not all of it could be saved in {self._log.path} ({self._log.problem})"
        return (
            f"it is saved in {self._log.path}, and will be delivered by the next search or final "
            "training with this --storage, or by: python tuning/deliver.py --storage <folder>"
        )


@contextmanager
def recorded_final(
    tracking_uri: str, description: FinalDescription, storage: Path
) -> Iterator[Recording]:
    """Record a final training or a confirmation; its log is deleted once MLflow has all of it.

    Args:
        tracking_uri: The store.
        description: What it is.
        storage: Folder of studies, whose own folders contain the logs.

    Raises:
        InputError, RecordingError: As of ``Recording`` and its ``close``.
    """
    name = f"{description.kind}-{uuid.uuid4().hex}"
    with open_log(storage / (description.study or "final") / name) as log:
        try:
            with Recording(tracking_uri, log, description) as recording:
                yield recording
        finally:
            if not count_waiting(log.folder):
                discard_final(log)


def discard_final(log: EventLog) -> None:
    """Delete the log of a final training, and the study's folder and the storage where empty."""
    log.discard()
    with contextlib.suppress(OSError):
        log.folder.parent.rmdir()
        log.folder.parent.parent.rmdir()


@contextmanager
def recorded_files(uri: str, run_id: str, folder: str | None = None) -> Iterator[Path]:
    """Yield a temporary folder; the files written there become artifacts of a run.

    Args:
        uri: The tracking store.
        run_id: The run.
        folder: Where in the run's artifacts.

    Raises:
        InputError: The store does not answer.
        RecordingError: The store does not accept them.
    """
    store = open_store(uri, must_exist=True)
    with tempfile.TemporaryDirectory() as files:
        yield Path(files)
        try:
            store.client.log_artifacts(run_id, files, folder)
        except (MlflowException, OSError) as error:
            raise RecordingError(
                f"{store.shown} must accept artifacts, but does not ({reason_of(error)})"
            ) from error
