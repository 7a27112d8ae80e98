"""Deliver what an earlier process recorded and could not deliver: the journals of a storage folder.

Everything in a journal can be sent again, in order, without being recorded twice; so a delivery
that is cut off is simply done again. A study's journal is kept, since the study may go on; that of
a final training is deleted once it is delivered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow.exceptions import MlflowException

from mianet.addresses import without_credentials
from mianet.errors import InputError
from tuning.events.journal import (
    JOURNAL_FOLDER,
    RECORDS_FILE,
    Journal,
    JournalBusyError,
    undelivered_in,
)
from tuning.tracking.delivery import Outcome
from tuning.tracking.run_messages import EndRun, RunMessage, Runs, StartRun, decoded
from tuning.tracking.run_writer import delivery_of, end, refused_by, values
from tuning.tracking.store import (
    OPEN_TIMEOUT_SECONDS,
    TrackingStore,
    absolute_tracking_uri,
    open_store,
    short_requests,
)

_PART = 2000
"""Records that are delivered together: joined where that saves requests, then marked."""

_DEADLINE_SECONDS = 60.0
"""How long a part is tried, while the store fails."""


@dataclass(frozen=True)
class Redelivery:
    """What became of one journal.

    Attributes:
        folder: The journal's.
        name: What it records.
        tracking_uri: Where to; without a password.
        delivered: Records that were delivered now.
        waiting: Records that were not.
        reason: Why, or what was refused; empty where all is well.
    """

    folder: Path
    name: str
    tracking_uri: str = ""
    delivered: int = 0
    waiting: int = 0
    reason: str = ""

    def __str__(self) -> str:
        """Return it as a line for a person."""
        line = f"{self.name}: {self.delivered} records delivered to {self.tracking_uri}"
        if self.waiting:
            line += f", {self.waiting} wait in {self.folder}"
        return f"{line} ({self.reason})" if self.reason else line


def deliver_waiting(storage: Path, uri_for: Callable[[str], str]) -> Iterator[Redelivery]:
    """Deliver every journal under a storage folder that has something to deliver.

    A journal that a running process records to is left to it.

    Args:
        storage: Folder of studies; a journal lies in a study's folder.
        uri_for: Given the store that a journal was recorded to, without its password, returns the
            one to deliver to; empty for none.
    """
    for file in sorted(storage.glob(f"*/{JOURNAL_FOLDER}*/{RECORDS_FILE}")):
        if file.parent.name == JOURNAL_FOLDER and not undelivered_in(file.parent):
            continue
        try:
            journal = Journal(file.parent)
        except JournalBusyError:
            continue
        except InputError as error:
            yield Redelivery(file.parent, file.parent.parent.name, reason=str(error))
            continue
        with closing(journal):
            if uri := uri_for(journal.about.get("tracking_uri", "")):
                try:
                    yield _deliver(journal, uri)
                except InputError as error:
                    yield Redelivery(file.parent, file.parent.parent.name, reason=str(error))


def deliver_waiting_for(storage: Path, tracking_uri: str) -> None:
    """Deliver what waits under a storage folder for this store; say in a line what that was."""
    uri = absolute_tracking_uri(tracking_uri)
    for redelivery in deliver_waiting(
        storage, lambda to: uri if to == without_credentials(uri) else ""
    ):
        print(redelivery, flush=True)


def _deliver(journal: Journal, uri: str) -> Redelivery:
    messages = [decoded(record) for record in journal.records]
    of_study = journal.folder.name == JOURNAL_FOLDER
    if not of_study:
        messages += _end_of(messages)
    told = Redelivery(
        journal.folder,
        journal.about["name"],
        without_credentials(uri),
        waiting=len(messages) - journal.delivered,
    )
    try:
        runs = _runs(journal, messages, open_store(uri, must_exist=True))
    except InputError as error:
        return replace(told, reason=str(error))
    refused: list[str] = []
    for start in range(journal.delivered, len(messages), _PART):
        part = messages[start : start + _PART]
        outcome = _delivered(part, runs)
        if outcome.undelivered:
            waiting = len(messages) - start
            return replace(
                told, delivered=told.waiting - waiting, waiting=waiting, reason=outcome.reason
            )
        refused += [f"refused: {refusal.reason}" for refusal in outcome.refused]
        journal.mark_delivered(start + len(part))
    if not of_study:
        journal.discard()
    return replace(told, delivered=told.waiting, waiting=0, reason="; ".join(refused))


def _delivered(messages: Sequence[RunMessage], runs: Runs) -> Outcome[RunMessage]:
    delivery = delivery_of(runs.send)
    delivery.put(*messages)
    return delivery.close(_DEADLINE_SECONDS)


def _end_of(messages: Sequence[RunMessage]) -> list[RunMessage]:
    """Return the end of a final training whose process died before it; nothing goes on with it."""
    if not messages or any(isinstance(message, EndRun) for message in messages):
        return []
    run = messages[0].run
    tags = {"status": "interrupted", "reason": "Its process ended before it."}
    return [values(run, tags=tags), end(run, "interrupted")]


def _runs(journal: Journal, messages: Sequence[RunMessage], store: TrackingStore) -> Runs:
    """Return the runs of a journal; check that the store is the one that has them."""
    name = journal.about.get("experiment", "")
    try:
        with short_requests(OPEN_TIMEOUT_SECONDS):
            experiment = store.client.get_experiment_by_name(name)
            if experiment is None:
                raise _not_there(store, f"the experiment {name}")
            runs = Runs(store.client, experiment.experiment_id)
            runs.expect(message.run for message in messages if isinstance(message, StartRun))
            if journal.delivered:
                runs.id_of(messages[0].run)
    except LookupError as error:
        raise _not_there(store, "its run") from error
    except (MlflowException, OSError) as error:
        raise refused_by(store, "a search for runs", error) from error
    return runs


def _not_there(store: TrackingStore, what: str) -> InputError:
    return InputError(
        f"a record must be delivered to the store that has its beginning, but "
        f"{without_credentials(store.uri)} does not have {what}; give another --tracking-uri"
    )
