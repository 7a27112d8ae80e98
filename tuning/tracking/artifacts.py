"""Files as artifacts of a run that has been recorded."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.exceptions import MlflowException

from tuning.spec.errors import RecordingError
from tuning.tracking.store import open_store, reason_of


@contextmanager
def recorded_files(uri: str, run_id: str, folder: str | None = None) -> Iterator[Path]:
    """Yield a temporary folder; what is written there becomes artifacts of a run.

    Args:
        uri: The tracking store.
        run_id: The run.
        folder: The folder of the run's artifacts that they are put into; None for no folder.

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
