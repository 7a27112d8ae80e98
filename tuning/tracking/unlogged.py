"""Record what has no log: runs of work that begins anew when it was cut off, and files of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mlflow.exceptions import MlflowException

from tuning.events.projector import CLOSE_SECONDS, UnreachableError, insisted
from tuning.spec.errors import RecordingError
from tuning.tracking.experiments import experiment_for, location_of
from tuning.tracking.requests import Request, Runs, StartRun
from tuning.tracking.store import open_store, reason_of


class UnloggedRuns(Runs):
    """A run of a data set's experiment, created at once, and those that are nested in it.

    What cannot be sent at once is sent with what follows.
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
        super().put(*requests)
        with suppress(UnreachableError):
            self.flush()

    def close(self) -> None:
        """Send what is left; a ``RecordingError`` says what did not arrive within a minute."""

        def flushed() -> bool:
            self.flush()
            return True

        problems = []
        if reason := insisted(flushed, CLOSE_SECONDS):
            problems.append(f"{len(self.waiting)} requests did not arrive: {reason}")
        problems += [f"it refused a part: {reason}" for _, reason in self.refused]
        if problems:
            raise RecordingError(
                f"{self._uri} must accept what is recorded and does not ({'; '.join(problems)})"
            )


@contextmanager
def recorded_files(uri: str, run_id: str, folder: str | None = None) -> Iterator[Path]:
    """Yield a temporary folder; what is written there becomes artifacts of a run.

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
                f"{store.shown} must accept artifacts and does not ({reason_of(error)})"
            ) from error
