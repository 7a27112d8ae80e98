"""What MLflow is told of a log: requests as a function of the state and the next event."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import cast

from mianet.errors import InputError
from tuning.events.event import Closed, EpochDone, Event, Opened, Proposed, SeedDone, TextAdded
from tuning.events.log import CURSOR_FILE, EventLog, cursor_in, mark_cursor
from tuning.events.projector import Projection
from tuning.events.state import State
from tuning.spec.records import (
    CONFIRMATION,
    NOTE_TAG,
    OBJECTIVE_TAG,
    PAPER,
    FinalDescription,
    mean_and_sd,
    protocol_key,
)
from tuning.tracking import descriptions
from tuning.tracking.requests import EndRun, LogDataset, LogText, Request, Runs, StartRun, values
from tuning.tracking.store import PARENT_TAG, TrackingStore

_logger = logging.getLogger(__name__)

_CONTEXTS = {"final": "final training", CONFIRMATION: "confirmation"}
"""Kind of run → what MLflow shows that its data set was used for."""


class RunProjection(Projection):
    """A run of MLflow, and those nested in it, as they follow from a log.

    The runs of what the log amounts to may be in the store already.
    """

    receiver = "tracking store"

    def __init__(self, log: EventLog, store: TrackingStore, experiment_id: str) -> None:
        self._folder, self._store, self._known = log.folder, store, log.state
        self.state = State()  # what the log amounts to as far as this has come
        self.runs = Runs(store.client, experiment_id)
        if opening := log.state.opening:
            trials = [trial_key(opening.key, number) for number in log.state.trials]
            self.runs.expect([opening.key, *trials])

    @property
    def cursor(self) -> int:
        return cursor_in(self._folder)

    def mark(self, end: int) -> None:
        mark_cursor(self._folder, end)

    def learn(self, event: Event) -> None:
        if not isinstance(event, EpochDone):
            list(self.requests(event))  # which remembers what was told
        self.state.apply(event)

    def take(self, event: Event) -> None:
        self.runs.put(*self.requests(event))
        self.state.apply(event)

    def take_unkept(self, events: Sequence[Event]) -> None:
        for event in events:
            self.take(event)

    def flush(self) -> None:
        self.runs.flush()

    def abandon(self) -> None:
        self.runs.abandoned = True

    def end(self, error: Exception) -> None:
        _logger.error(
            "the delivery to the %s ended; nothing more is sent", self.receiver, exc_info=error
        )

    def start(self, opening: Opened) -> str:
        """Create the run of an opening, or find it again; return MLflow's id of it.

        Raises:
            InputError: The store does not accept it, or does not have what it should.
        """
        with self._store.asked("a new run"):
            if not self.cursor:
                next(self.requests(opening)).send(self.runs)  # its creation comes first
            if run_id := self.runs.find(opening.key):
                return run_id
        raise InputError(
            f"{opening.description.name} must be in the tracking store to go on, but "
            f"{self._store.uri} does not have it; give the --tracking-uri that it was recorded to, "
            f"or delete {self._folder / CURSOR_FILE} to have all of it recorded anew"
        )

    def name_of(self, key: str) -> str:
        opened = self._known.opened
        number = key.removeprefix(opened.key)
        if not number:
            return opened.description.name
        return trial_name(self._known.trials[int(number.removeprefix("-"))].proposed)

    @abstractmethod
    def requests(self, event: Event) -> Iterator[Request]:
        """Yield what the store must be sent of the next event; the state is that before it."""


class FinalProjection(RunProjection):
    """The run of a configuration that is run several times, as it follows from its log.

    A final training has several seeds and scores the test parts once a seed; a confirmation has
    several fresh draws of the validation protocol.
    """

    def requests(self, event: Event) -> Iterator[Request]:
        if isinstance(event, Opened):
            yield from self._begin(event, cast(FinalDescription, event.description))
            return
        key, seeds = self.state.opened.key, self.state.seeds
        if isinstance(event, SeedDone):
            yield values(key, event.time_ms, metrics=event.metrics, step=len(seeds))
        elif isinstance(event, TextAdded):
            yield LogText(key, event.path, event.text)
        elif isinstance(event, Closed):
            duration = {"duration_seconds": self.state.work.seconds(event.time_ms)}
            metrics = {**mean_and_sd(seeds), **duration, **event.summary}
            tags = {"status": event.status, "reason": event.note}
            yield values(key, event.time_ms, metrics=metrics, tags=tags)
            yield EndRun(key, event.status, event.time_ms)

    def _begin(self, event: Opened, about: FinalDescription) -> Iterator[Request]:
        tags = {
            "kind": about.kind,
            "role": about.role,
            "status": "running",
            "device": about.device,
            "source_run_id": about.source_run_id,
            PARENT_TAG: about.study_run_id,
            **tags_of(event),
            NOTE_TAG: descriptions.final_note(about),
        }
        params = {
            **about.settings,
            **about.hyperparameters,
            "epochs": about.epochs,
            "seeds": ", ".join(map(str, about.seeds)),
            "source_run_id": about.source_run_id,
        }
        yield StartRun(event.key, about.name, event.time_ms, tags)
        yield LogDataset(event.key, about, _CONTEXTS[about.kind])
        yield values(event.key, event.time_ms, params=descriptions.flattened(params))


def tags_of(opening: Opened) -> dict[str, str]:
    """Return the tags of all runs of a log: what they are of, and where they come from."""
    about = opening.description
    return {
        "study": about.study if isinstance(about, FinalDescription) else about.name,
        "dataset": about.dataset,
        "protocol_key": protocol_key(about.protocol),
        "data_digest": about.data_digest,
        OBJECTIVE_TAG: about.objective,
        **opening.provenance,
    }


def trial_key(study_key: str, number: int) -> str:
    return f"{study_key}-{number:05d}"


def trial_name(proposed: Proposed) -> str:
    return f"trial {proposed.number:03d}" + (" (paper)" if proposed.origin == PAPER else "")
