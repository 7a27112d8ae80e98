"""The tracking store: which one it is, whether it answers, and the client that talks to it."""

from __future__ import annotations

import logging
import os
import shlex
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import filelock
import sqlalchemy

from mianet.addresses import without_credentials
from mianet.errors import InputError
from tuning.tracking.address import absolute_tracking_uri, scheme_of, sqlite_path

# A search on a closed network must not wait for usage reports; set it to false to allow them.
# A progress bar would be drawn for every artifact, however small.
# MLflow reads these variables when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException
from mlflow.store.entities.paged_list import PagedList
from mlflow.tracking import MlflowClient
from mlflow.utils import get_results_from_paginated_fn

# It logs a traceback for every refused statement; failures are reported where they are handled.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

ARTIFACT_FOLDER = "mlartifacts"

OPEN_TIMEOUT_SECONDS = 5
DELIVERY_TIMEOUT_SECONDS = 20
_LOCK_TIMEOUT_SECONDS = 60
_MAX_REASON = 300
_PAGE = 1000
_FAILURES = (MlflowException, OSError)
PARENT_TAG = "mlflow.parentRunId"
_ACCESS_DENIED = ("UNAUTHENTICATED", "PERMISSION_DENIED")


@dataclass(frozen=True)
class TrackingStore:
    """A tracking store that has answered."""

    uri: str
    client: MlflowClient
    artifact_root: str | None  # URI for artifacts; None where a server decides

    @property
    def shown(self) -> str:
        return without_credentials(self.uri)

    def location_of(self, experiment: Experiment, run_id: str) -> str:
        """Return where to find a run: an address, or the command that shows it."""
        uri = self.shown.rstrip("/")
        if self.artifact_root is not None:
            return f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
        run = f"experiments/{experiment.experiment_id}/runs/{run_id}"
        return f"{uri}/#/{run}?workflowType=machine_learning"

    @contextmanager
    def requesting(self, what: str, seconds: int | None = OPEN_TIMEOUT_SECONDS) -> Iterator[None]:
        """Turn the store's failures into InputErrors; None seconds for MLflow's own patience."""
        try:
            with short_requests(seconds) if seconds else nullcontext():
                yield
        except _FAILURES as error:
            raise InputError(
                f"the tracking store must accept {what}, but {self.shown} does not "
                f"({reason_of(error)}); fix it, or give another --tracking-uri"
            ) from error


def open_store(uri: str, *, must_exist: bool = False) -> TrackingStore:
    """Connect to a tracking store and check that it answers.

    Args:
        uri: As ``--tracking-uri`` has it; see ``absolute_tracking_uri``.
        must_exist: Refuse to create a SQLite database.

    Raises:
        InputError: The store cannot be used; found within about 10 seconds, leaving nothing behind.
    """
    uri = absolute_tracking_uri(uri)
    scheme, path = scheme_of(uri), sqlite_path(uri)
    if scheme != "sqlite":
        root = None if scheme.startswith("http") else _artifacts_in(Path.cwd())
        return TrackingStore(uri, _answering_client(uri), root)
    if must_exist and not path.is_file():
        raise InputError(
            f"the tracking database must exist, but there is no {path}; run a search first, or "
            "give the --tracking-uri that it was recorded to"
        )
    with _creation_lock(path):
        _check_sqlite(path)
        return TrackingStore(uri, _answering_client(uri), _artifacts_in(path.parent))


def runs_of(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
    """Return the runs of an experiment that have all of these tags, the oldest first.

    Args:
        client: Talks to the store.
        experiment_id: The experiment there.
        tags: Name → value; none for all runs.
    """
    condition = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())

    def page(most: int, token: str | None) -> PagedList[Run]:
        return client.search_runs([experiment_id], condition, max_results=most, page_token=token)

    found = get_results_from_paginated_fn(page, _PAGE)
    return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))


@contextmanager
def short_requests(timeout_seconds: int) -> Iterator[None]:
    """Make MLflow's HTTP requests fail fast, without retries, inside this context.

    MLflow takes these settings only from environment variables. The caller retries by itself, so
    it can tell a request that was refused from one that never arrived.
    """
    with _settings_lock:
        if not _timeouts:
            _saved_settings.update({name: os.environ.get(name) for name in _request_settings(0)})
        _timeouts.append(timeout_seconds)
        set_environment(_request_settings(timeout_seconds))
    try:
        yield
    finally:
        with _settings_lock:
            _timeouts.remove(timeout_seconds)
            set_environment(_request_settings(_timeouts[-1]) if _timeouts else _saved_settings)


def set_environment(settings: Mapping[str, str | None]) -> None:
    """Set environment variables; delete those that are None."""
    for name, value in settings.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def reason_of(error: BaseException) -> str:
    """Return the innermost cause of an error as one short line."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    text = " ".join(text.split("Response body")[0].split())
    return without_credentials(text)[:_MAX_REASON]


def _artifacts_in(folder: Path) -> str:
    return (folder / ARTIFACT_FOLDER).as_uri()


@contextmanager
def _creation_lock(path: Path) -> Iterator[None]:
    """Keep other processes out: several creating one database at once would damage it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InputError(
            f"the tracking database must be in a writable folder, but {path.parent} is not "
            f"({error.strerror}); give another folder, or another --tracking-uri"
        ) from error
    try:
        with filelock.FileLock(f"{path}.lock", timeout=_LOCK_TIMEOUT_SECONDS):
            yield
    except filelock.Timeout as error:
        raise InputError(
            f"another process has been creating {path} for more than {_LOCK_TIMEOUT_SECONDS} s; "
            f"stop it, or delete {path}.lock if there is none"
        ) from error


def _check_sqlite(path: Path) -> None:
    if not path.exists():
        return
    try:
        connection = sqlite3.connect(path, timeout=OPEN_TIMEOUT_SECONDS, isolation_level=None)
        with closing(connection):
            connection.execute("SELECT count(*) FROM sqlite_master")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise InputError(
            f"the tracking database must be a writable SQLite file, but {path} is not "
            f"({error}); give another --tracking-uri"
        ) from error


def _answering_client(uri: str) -> MlflowClient:
    timeout, pool = {"connect_timeout": OPEN_TIMEOUT_SECONDS}, sqlalchemy.pool.NullPool
    try:
        if scheme_of(uri) == "postgresql":  # MLflow would try ten times over more than a minute
            sqlalchemy.create_engine(uri, connect_args=timeout, poolclass=pool).connect().close()
        with short_requests(OPEN_TIMEOUT_SECONDS):
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
    except (*_FAILURES, sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        remedy = "start it or correct the address"
        if getattr(error, "error_code", "") in _ACCESS_DENIED:
            remedy = (
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                "MLFLOW_TRACKING_TOKEN"
            )
        raise InputError(
            f"the tracking store must answer, but {uri} does not ({reason_of(error)}); {remedy}, "
            "or leave --tracking-uri out to record to a local database"
        ) from error
    return client


def _request_settings(timeout_seconds: int) -> dict[str, str]:
    return {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_seconds),
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }


_settings_lock = threading.Lock()
_timeouts: list[int] = []
_saved_settings: dict[str, str | None] = {}
