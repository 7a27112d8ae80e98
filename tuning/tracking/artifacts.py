"""Files as artifacts of a run that has been recorded."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlflow.exceptions import MlflowException

from tuning.spec.errors import RecordingError
from tuning.tracking.store import open_store, reason_of


def record_texts(uri: str, run_id: str, texts: Mapping[str, str], folder: str) -> None:
    """Make texts artifacts of a run.

    Args:
        uri: The tracking store.
        run_id: The run.
        texts: File name → content.
        folder: The folder of the run's artifacts that they are put into.

    Raises:
        InputError: The store does not answer.
        RecordingError: The store does not accept them.
    """
    with tempfile.TemporaryDirectory() as temporary:
        for name, text in texts.items():
            Path(temporary, name).write_text(text, encoding="utf-8", errors="replace")
        record_files(uri, run_id, Path(temporary), folder)


def record_files(uri: str, run_id: str, files: Path, folder: str | None = None) -> None:
    """Make files artifacts of a run.

    Args:
        uri: The tracking store.
        run_id: The run.
        files: The folder that they are in.
        folder: The folder of the run's artifacts that they are put into; None for no folder.

    Raises:
        InputError: The store does not answer.
        RecordingError: The store does not accept them.
    """
    store = open_store(uri, must_exist=True)
    try:
        store.client.log_artifacts(run_id, str(files), folder)
    except (MlflowException, OSError) as error:
        raise RecordingError(
            f"{store.shown} must accept artifacts and does not ({reason_of(error)})"
        ) from error
