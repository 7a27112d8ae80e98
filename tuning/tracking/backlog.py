"""Deliver what earlier processes recorded and could not deliver: the logs of a storage folder.

Everything in a log can be sent again without being recorded twice, so a delivery that is cut off is
simply done again. A study's log is kept, since the study may go on; that of a final training is
deleted once it is delivered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow.exceptions import MlflowException

from mianet.addresses import without_credentials
from mianet.errors import InputError
from tuning.events.event import Closed, FinalStarted, Opening
from tuning.events.log import (
    CURSOR_FILE,
    LOG_FILE,
    EventLog,
    LogBusyError,
    cursor_in,
    hold,
    waiting_in,
)
from tuning.events.projector import Projector, UnreachableError
from tuning.tracking.experiments import experiment_for, refused_by
from tuning.tracking.final_projection import FinalProjection
from tuning.tracking.recording import discard_final
from tuning.tracking.run_projection import RunProjection
from tuning.tracking.store import (
    OPEN_TIMEOUT_SECONDS,
    TrackingStore,
    absolute_tracking_uri,
    open_store,
    short_requests,
)
from tuning.tracking.study_projection import StudyProjection

DEADLINE_SECONDS = 60.0
"""How long a part is tried, while the store fails."""
PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Delivered:
    """What became of one log.

    Attributes:
        path: The log.
        name: What it is of.
        tracking_uri: Where to; without a password.
        events: How many were delivered now.
        waiting: How many were not.
        reason: Why, or what was refused; empty where all is well.
    """

    path: Path
    name: str
    tracking_uri: str = ""
    events: int = 0
    waiting: int = 0
    reason: str = ""

    def __str__(self) -> str:
        """Return it as a line for a person."""
        line = f"{self.name}: {self.events} events delivered to {self.tracking_uri}"
        if self.waiting:
            line += f", {self.waiting} wait in {self.path}"
        return f"{line} ({self.reason})" if self.reason else line


def deliver_waiting(storage: Path, uri_for: Callable[[str], str]) -> Iterator[Delivered]:
    """Deliver every log under a storage folder that has something to deliver.

    A log that a running process has is left to it.

    Args:
        storage: Folder of studies; a study's log is in its folder, those of its final trainings
            are in folders of it.
        uri_for: Given the store that a log was recorded to, without its password, returns the one
            to deliver to; empty for none.
    """
    for path in sorted([*storage.glob(f"*/{LOG_FILE}"), *storage.glob(f"*/*/{LOG_FILE}")]):
        is_final = path.parent.parent != storage
        if not is_final and not waiting_in(path.parent):
            continue
        try:
            with hold(path.parent) as log:
                opening = log.state.opening
                if opening and (uri := uri_for(opening.tracking_uri)):
                    yield _deliver(log, opening, uri)
        except LogBusyError:
            continue
        except InputError as error:
            yield Delivered(path, path.parent.name, reason=str(error))


def deliver_waiting_for(storage: Path, tracking_uri: str) -> None:
    """Deliver what waits under a storage folder for this store; say in a line what that was."""
    uri = absolute_tracking_uri(tracking_uri)
    for delivered in deliver_waiting(
        storage, lambda to: uri if to == without_credentials(uri) else ""
    ):
        print(delivered, flush=True)


def _deliver(log: EventLog, opening: Opening, uri: str) -> Delivered:
    is_final = isinstance(opening, FinalStarted)
    if is_final and log.state.closed is None:  # nothing goes on with it
        seen_ms = log.state.work.seen_ms
        log.append(Closed("interrupted", "Its process ended before it.", time_ms=seen_ms))
    before = waiting_in(log.folder)
    told = Delivered(log.path, "", without_credentials(uri), waiting=before)
    try:
        store = open_store(uri, must_exist=True)
        projection = _projection(log, opening, store)
    except InputError as error:
        return replace(told, name=log.folder.name, reason=str(error))
    told = replace(told, name=projection.name_of(opening.key, log.state))
    reason = _send(Projector(log, projection))
    waiting = waiting_in(log.folder)
    if is_final and not waiting:
        discard_final(log)
    refused = [f"refused: {why}" for _, why in projection.sender.refused]
    return replace(
        told, events=before - waiting, waiting=waiting, reason=reason or "; ".join(refused)
    )


def _send(projector: Projector) -> str:
    """Send all that a log has; return why that failed, or nothing."""
    deadline, end = time.monotonic() + DEADLINE_SECONDS, -1
    while True:
        try:
            if projector.step():
                return ""
        except UnreachableError as error:
            if time.monotonic() > deadline:
                return str(error)
            time.sleep(PAUSE_SECONDS)
        if projector.end > end:
            deadline, end = time.monotonic() + DEADLINE_SECONDS, projector.end


def _projection(log: EventLog, opening: Opening, store: TrackingStore) -> RunProjection:
    """Return what a log's store is told; check that it is the one that has the beginning."""
    kind = FinalProjection if isinstance(opening, FinalStarted) else StudyProjection
    try:
        with short_requests(OPEN_TIMEOUT_SECONDS):
            experiment = store.client.get_experiment_by_name(opening.experiment)
            if experiment is None and not _is_lost(log, opening, store):
                raise _not_there(log, store, f"the experiment {opening.experiment}")
            experiment = experiment or experiment_for(store, opening.description.dataset)
            projection = kind(log, store, experiment.experiment_id)
            if projection.cursor:
                projection.runs.id_of(opening.key)
    except LookupError as error:
        raise _not_there(log, store, "its run") from error
    except (MlflowException, OSError) as error:
        raise refused_by(store, "a search for runs", error) from error
    return projection


def _is_lost(log: EventLog, opening: Opening, store: TrackingStore) -> bool:
    """Say whether a log is to be recorded anew in the store that it was recorded to."""
    return not cursor_in(log.folder) and without_credentials(store.uri) == opening.tracking_uri


def _not_there(log: EventLog, store: TrackingStore, what: str) -> InputError:
    return InputError(
        f"a record must be delivered to the store that has its beginning, but "
        f"{without_credentials(store.uri)} does not have {what}; give another --tracking-uri, or "
        f"delete {log.folder / CURSOR_FILE} to have all of it recorded anew"
    )
