"""Deliver what earlier processes recorded but could not deliver: the logs in a storage folder.

Everything in a log can be sent again without being recorded twice, so an interrupted delivery is
simply repeated. A study's log is kept, since the study may be resumed; that of a final training is
deleted once it is delivered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mianet.addresses import without_credentials
from mianet.errors import InputError
from tuning.events.event import Closed, Opened
from tuning.events.log import (
    CURSOR_FILE,
    LOG_FILE,
    EventLog,
    LogBusyError,
    count_waiting,
    open_log,
    read_cursor,
)
from tuning.events.projector import CLOSE_SECONDS, Projector, retry_until_done
from tuning.spec.records import FinalDescription
from tuning.tracking.address import absolute_tracking_uri
from tuning.tracking.experiments import experiment_for
from tuning.tracking.projections import RunProjection
from tuning.tracking.recording import PROJECTIONS, discard_final
from tuning.tracking.store import open_store


@dataclass(frozen=True)
class Delivered:
    """The outcome for one log, as a line to print; ``reason`` is empty if all went well."""

    line: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.line} ({self.reason})" if self.reason else self.line


def deliver_waiting(storage: Path, uri_for: Callable[[str], str]) -> Iterator[Delivered]:
    """Deliver every log under a storage folder that has something to deliver.

    A log that a running process holds is skipped.

    Args:
        storage: Folder of studies.
        uri_for: Given the store that a log was recorded to, without its password, returns the one
            to deliver to; empty for none.
    """
    for path in sorted([*storage.glob(f"*/{LOG_FILE}"), *storage.glob(f"*/*/{LOG_FILE}")]):
        is_final = path.parent.parent != storage
        if not is_final and not count_waiting(path.parent):
            continue
        try:
            with open_log(path.parent) as log:
                opening = log.state.opening
                if opening and (uri := uri_for(opening.tracking_uri)):
                    yield _deliver(log, opening, uri)
        except LogBusyError:
            continue
        except InputError as error:
            yield Delivered(f"{path.parent.name}: 0 events delivered", str(error))


def deliver_waiting_for(storage: Path, tracking_uri: str) -> None:
    """Deliver what is waiting under a storage folder for this store; print a line for each log."""
    uri = absolute_tracking_uri(tracking_uri)
    for delivered in deliver_waiting(
        storage, lambda to: uri if to == without_credentials(uri) else ""
    ):
        print(delivered, flush=True)


def _deliver(log: EventLog, opening: Opened, uri: str) -> Delivered:
    is_final = isinstance(opening.description, FinalDescription)
    if is_final and log.state.closed is None:  # nothing will resume it
        seen_ms = log.state.work.seen_ms
        log.append(Closed("interrupted", "The process ended too early.", time_ms=seen_ms))
    before = count_waiting(log.folder)
    try:
        projection = _projection(log, opening, uri)
        reason = retry_until_done(Projector(log, projection).step, CLOSE_SECONDS)
        reason = reason or "; ".join(f"refused: {why}" for _, why in projection.runs.refused)
    except InputError as error:
        reason = str(error)
    waiting = count_waiting(log.folder)
    if is_final and not waiting:
        discard_final(log)
    name, to = opening.description.name, without_credentials(uri)
    line = f"{name}: {before - waiting} events delivered to {to}"
    return Delivered(line + (f", {waiting} still wait in {log.path}" if waiting else ""), reason)


def _projection(log: EventLog, opening: Opened, uri: str) -> RunProjection:
    """Return a log's projection to a store; check that the store has the beginning of it."""
    store, cursor = open_store(uri, must_exist=True), read_cursor(log.folder)
    with store.requesting("a search for runs"):
        experiment = store.client.get_experiment_by_name(opening.experiment)
        if experiment is None and not cursor and store.shown == opening.tracking_uri:
            experiment = experiment_for(store, opening.description.dataset)  # all of it is lost
        if experiment:
            kind = PROJECTIONS[type(opening.description)]
            projection = kind(log, store, experiment.experiment_id)
            if not cursor or projection.runs.find(opening.key):
                return projection
    missing = "its run" if experiment else f"the experiment {opening.experiment}"
    raise InputError(
        f"a log must be delivered to the store that has its first part, but {store.shown} does "
        f"not have {missing}; give another --tracking-uri, or delete {log.folder / CURSOR_FILE} to "
        "record all of it again"
    )
