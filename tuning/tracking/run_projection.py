"""What MLflow is told of a log: requests as a function of the state and the next event."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mlflow.exceptions import MlflowException

from mianet.errors import InputError
from tuning.events.event import EpochDone, Event, Opening
from tuning.events.log import CURSOR_FILE, EventLog, cursor_in, mark_cursor
from tuning.events.projector import Projection
from tuning.events.state import State
from tuning.tracking.experiments import refused_by
from tuning.tracking.requests import Request, Runs, Sender, StartRun
from tuning.tracking.store import OPEN_TIMEOUT_SECONDS, TrackingStore, short_requests

_logger = logging.getLogger(__name__)


class RunProjection(Projection):
    """A run of MLflow, and those nested in it, as they follow from a log.

    Args:
        log: The log; the runs of what it amounts to may be in the store already.
        store: Where to.
        experiment_id: The experiment there.

    Attributes:
        state: What the log amounted to when it had come as far as this.
        sender: Sends requests, and keeps what was refused.
    """

    receiver = "tracking store"

    def __init__(self, log: EventLog, store: TrackingStore, experiment_id: str) -> None:
        self._folder = log.folder
        self._store = store
        self.state = State()
        self.sender = Sender(Runs(store.client, experiment_id))
        self.sender.runs.expect(self.keys_of(log.state))

    @property
    def cursor(self) -> int:
        """Return up to where in the log the store has everything."""
        return cursor_in(self._folder)

    @property
    def runs(self) -> Runs:
        """Return the runs that are written."""
        return self.sender.runs

    def mark(self, end: int) -> None:
        """Note up to where the store has everything."""
        mark_cursor(self._folder, end)

    def learn(self, event: Event) -> None:
        """Take note of an event that the store has."""
        if not isinstance(event, EpochDone):
            list(self.requests(event))
        self.state.apply(event)

    def take(self, event: Event) -> None:
        """Work out what the store must be sent of the next event."""
        self.sender.put(*self.requests(event))
        self.state.apply(event)

    def take_unkept(self, events: Sequence[Event]) -> None:
        """Work out what the store is sent of events that the log does not have."""
        for event in events:
            self.take(event)

    def flush(self) -> None:
        """Send it.

        Raises:
            UnreachableError: Not all of it was taken; the next call sends the rest.
        """
        self.sender.flush()

    def abandon(self) -> None:
        """Send no more: time is up."""
        self.sender.abandoned = True

    def end(self, error: Exception) -> None:
        """Say that nothing more is sent, because of an error that will not pass."""
        _logger.error(
            "the delivery to the %s ended; nothing more is sent", self.receiver, exc_info=error
        )

    def start(self, opening: Opening) -> str:
        """Create the run of an opening, or find it again; return MLflow's id of it.

        Raises:
            InputError: The store does not accept it, or does not have what it should.
        """
        started = self._start(opening)
        try:
            with short_requests(OPEN_TIMEOUT_SECONDS):
                if not self.cursor:
                    self.runs.create(started)
                return self.runs.id_of(opening.key)
        except LookupError as error:
            raise InputError(
                f"{started.name} must be in the tracking store to go on, but {self._store.uri} "
                "does not have it; give the --tracking-uri that it was recorded to, or delete "
                f"{self._folder / CURSOR_FILE} to have all of it recorded anew"
            ) from error
        except (MlflowException, OSError) as error:
            raise refused_by(self._store, "a new run", error) from error

    @abstractmethod
    def requests(self, event: Event) -> Iterator[Request]:
        """Yield what the store must be sent of the next event; the state is that before it."""

    @abstractmethod
    def keys_of(self, state: State) -> Iterable[str]:
        """Return our keys of all runs that follow from a state."""

    @abstractmethod
    def name_of(self, key: str, state: State) -> str:
        """Return the name of the run of a key of ours, given what the log amounts to."""

    @abstractmethod
    def _start(self, opening: Opening) -> StartRun:
        """Return the creation of the run of an opening."""


def new_figures(told: dict[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """Return the figures that were not told like this before, and remember that they are told."""
    new = {name: value for name, value in now.items() if told.get(name) != value}
    told |= new
    return new
