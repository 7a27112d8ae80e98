"""Record runs without a log: for work that begins anew when it was cut off."""

from __future__ import annotations

import contextlib
import time

from tuning.events.projector import CLOSE_SECONDS, UnreachableError
from tuning.spec.errors import RecordingError
from tuning.tracking.experiments import experiment_for, location_of
from tuning.tracking.requests import Request, Runs, StartRun
from tuning.tracking.store import open_store

_PAUSE_SECONDS = 1.0


class UnloggedRuns(Runs):
    """A run and those nested in it; what cannot be sent at once is sent with what follows.

    Args:
        tracking_uri: The store.
        dataset: Canonical name of the data set, whose experiment they are in.
        start: The run itself, created before this returns.

    Attributes:
        location: Where a person finds the run: an address, or the command that shows it.

    Raises:
        InputError: The store does not answer or cannot be written to; found in seconds.
    """

    def __init__(self, tracking_uri: str, dataset: str, start: StartRun) -> None:
        store = open_store(tracking_uri)
        experiment = experiment_for(store, dataset)
        super().__init__(store.client, experiment.experiment_id)
        with store.asked("a new run"):
            self.create(start)
        self._uri = store.shown
        self.location = location_of(store, experiment, self.id_of(start.run))

    def put(self, *requests: Request) -> None:
        """Send requests, in order."""
        super().put(*requests)
        with contextlib.suppress(UnreachableError):
            self.flush()

    def close(self) -> None:
        """Send what is left.

        Raises:
            RecordingError: Something was refused, or did not arrive within a minute.
        """
        deadline = time.monotonic() + CLOSE_SECONDS
        problems = []
        while self.waiting:
            try:
                self.flush()
            except UnreachableError as error:
                if time.monotonic() > deadline:
                    problems.append(f"{len(self.waiting)} requests did not arrive: {error}")
                    break
                time.sleep(_PAUSE_SECONDS)
        problems += [f"it refused a part: {reason}" for _, reason in self.refused]
        if problems:
            raise RecordingError(
                f"{self._uri} must accept what is recorded and does not ({'; '.join(problems)})"
            )
