"""A small study to record, reading it back, and a real MLflow server to record it to."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import shutil
import signal
import socket
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from unittest import mock

import forks
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tuning.events.event import Closed, Ended, EpochDone, Opened, Proposed
from tuning.events.log import open_log
from tuning.spec.records import FinalDescription, StudyDescription, means
from tuning.spec.space import search_space
from tuning.tracking import recording
from tuning.tracking.experiments import Links
from tuning.tracking.recording import Recording, recorded_final

PROTOCOL = {"executions": 2, "seed": 0, "unseen_share": 0.2}
STUDY = StudyDescription(
    name="a study",
    dataset="synthetic:apy",
    dataset_title="aPY (synthetic)",
    data_digest="0123456789abcdef" * 4,
    data_source="embedded",
    data_shape={"rows": 5932, "feature_dim": 2048, "seen_classes": 20},
    protocol=PROTOCOL,
    settings={"model": "mianet", "sampler": "tpe"},
    space=search_space(("alpha", "beta"), {"alpha": (1e-5, 1e4)}),
    objective="harmonic_mean",
)
FINAL = FinalDescription(
    role="selected",
    dataset=STUDY.dataset,
    dataset_title=STUDY.dataset_title,
    data_digest=STUDY.data_digest,
    data_source=STUDY.data_source,
    data_shape=STUDY.data_shape,
    hyperparameters={"model": "mianet", "alpha": 3.0},
    epochs=7,
    seeds=(0, 1, 2),
    protocol=PROTOCOL,
    settings={},
    objective="harmonic_mean",
)


OPENED = Opened(key="a key", description=STUDY)

TRIALS, EPOCHS = 3, 12


class StudyRecorder:
    """A study that is logged and recorded as a search does it, told what happens by name of trial.

    What the log has already is passed over.
    """

    def __init__(self, uri, description, folder=None, **more):
        self._numbers: dict[str, int] = {}
        with ExitStack() as stack:
            self.log = stack.enter_context(open_log(folder or Path(tempfile.mkdtemp())))
            self.recording = Recording(uri, self.log, description, **more)
            self._held = stack.pop_all()

    @property
    def study_run_id(self) -> str:
        return self.recording.run_id

    @property
    def links(self) -> Links:
        return self.recording.links

    def trial_started(self, trial, number, hyperparameters, *, origin) -> None:
        self._numbers[trial] = number
        if number not in self.log.state.trials:
            self.log.append(Proposed(number, {"model": "mianet"} | hyperparameters, origin))

    def epoch_finished(self, trial, epoch, metrics) -> None:
        known = self.log.state.trials[self._numbers[trial]]
        if epoch <= known.epoch:
            return
        value = metrics.get(self.log.state.objective.value, -1.0)
        best, at = (known.score, known.best_epoch) if known.best_epoch else (-1.0, 0)
        if math.isfinite(value) and value > best:
            best, at = value, epoch
        self.log.append(EpochDone(known.number, epoch, best, at, metrics))

    def trial_ended(self, trial, status, *, reason="") -> None:
        known = self.log.state.trials[self._numbers[trial]]
        if known.status == "running" and status != "interrupted":
            self.log.append(Ended(known.number, status, reason))

    def close(self, status="finished", *, note="", summary=None, deadline_seconds=60) -> None:
        if summary:
            self.log.append(Closed(status, note, summary))
        try:
            with mock.patch.object(recording, "CLOSE_SECONDS", deadline_seconds):
                self.recording.close(status, note=note)
        finally:
            self._held.close()

    def abandon(self) -> None:
        """Leave as a killed process does: all that was told is delivered, nothing has ended."""
        atexit.unregister(self.recording._close_at_exit)
        self.recording._projector.close(60)
        self._held.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback) -> None:
        with self._held:
            self.recording.__exit__(kind, error, traceback)


def final_recording(uri: str, description: FinalDescription) -> AbstractContextManager[Recording]:
    """Return the recording of a final training whose log is nowhere in particular."""
    return recorded_final(uri, description, Path(tempfile.mkdtemp()))


def epoch_metrics(score: float, extra: int = 0) -> dict[str, float]:
    """Return metrics of one epoch, all executions included."""
    return {
        "val_harmonic_mean": score,
        "val_zsl_accuracy": score / 2,
        "val_harmonic_mean_execution_0": score - 0.01,
        "val_harmonic_mean_execution_1": score + 0.01,
        **{f"loss_{number}": score * number for number in range(extra)},
    }


def record_trial(
    recorder: StudyRecorder, number: int, scores: list[float], status: str = "finished"
) -> None:
    trial = f"t{number}"
    values = {"alpha": 10.0 ** (number - 2), "beta": 0.01, "strategy": "iterative"}
    recorder.trial_started(trial, number, values, origin="tpe")
    for epoch, score in enumerate(scores, start=1):
        recorder.epoch_finished(trial, epoch, epoch_metrics(score))
    recorder.trial_ended(trial, status)


def search(recorder: StudyRecorder, trials: int = TRIALS, pause: float = 0.0) -> list[float]:
    """Record trials as a search does; return how long each call about an epoch took."""
    waits = []
    for number in range(trials):
        trial = f"t{number}"
        recorder.trial_started(trial, number, {"alpha": 1.0 + number}, origin="tpe")
        for epoch in range(1, EPOCHS + 1):
            started = time.perf_counter()
            recorder.epoch_finished(trial, epoch, epoch_metrics(0.01 * epoch, 3))
            waits.append(time.perf_counter() - started)
            time.sleep(pause)
        recorder.trial_ended(trial, "finished")
    return waits


def runs_of(uri: str, kind: str = "", study: str = "") -> dict[str, Run]:
    """Return name → run, of one kind or study if asked for; fails where two runs have one name."""
    client = MlflowClient(uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    wanted = {"kind": kind, "study": study}
    conditions = [f"tags.{tag} = '{value}'" for tag, value in wanted.items() if value]
    found = client.search_runs(experiments, " and ".join(conditions))
    names = [run.info.run_name for run in found]
    assert len(set(names)) == len(names), f"runs twice: {names}"
    return dict(zip(names, found, strict=True))


def curve(uri: str, run: Run, metric: str) -> list[tuple[int, float]]:
    history = MlflowClient(uri).get_metric_history(run.info.run_id, metric)
    return sorted((point.step, point.value) for point in history)


def statuses(uri: str) -> dict[str, str]:
    """Return name → MLflow's status, of all runs."""
    return {name: run.info.status for name, run in runs_of(uri).items()}


def values_twice(uri: str, study: str = "") -> list[tuple[str, str, int, float]]:
    """Return run, metric, step and value of what is recorded more than once, whenever it was."""
    client = MlflowClient(uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    twice = []
    for run in client.search_runs(experiments, f"tags.study = '{study}'" if study else ""):
        for metric in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, metric)
            counts = Counter((point.step, point.value) for point in history)
            twice += [(run.info.run_name, metric, *at) for at, n in counts.items() if n > 1]
    return twice


def check_whole(uri: str, name: str, trials: int = TRIALS) -> None:
    """Check that a study is there once, with all of its trials, and that nothing runs."""
    runs = runs_of(uri, study=name).values()
    names = {name, *(f"trial {number:03d}" for number in range(trials))}
    assert {run.info.run_name for run in runs} == names
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        assert len(run.inputs.dataset_inputs) == 1
        if run.data.tags["kind"] == "trial":
            for metric in means(epoch_metrics(0, 3)):
                wanted = [(e, epoch_metrics(0.01 * e, 3)[metric]) for e in range(1, EPOCHS + 1)]
                assert curve(uri, run, metric) == wanted
    assert values_twice(uri, name) == []


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A real ``mlflow server`` on a free port of this machine, that can be killed.

    It keeps its records in a copy of a SQLite database, or in the database at an address.
    """

    def __init__(self, folder: Path, database: Path | None = None, address: str = "") -> None:
        if database:
            shutil.copy(database, folder / "mlflow.db")
        self.folder = folder
        self._address = address or f"sqlite:///{folder}/mlflow.db"
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: forks.Fork | None = None

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = forks.Fork(
                forks.server(*forks.RECORDING),
                [
                    *(str(Path(__file__).with_name("mlflow_server.py")), "--workers", "1"),
                    *("--host", "127.0.0.1", "--port", str(self.port)),
                    *("--backend-store-uri", self._address),
                    *("--artifacts-destination", str(self.folder / "artifacts")),
                ],
                (0, log.fileno(), log.fileno()),
                MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
            )
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline and self._process.poll() is None:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{self.uri}/health", timeout=5),  # noqa: S310
            ):
                return
            time.sleep(0.1)
        pytest.fail(f"no server: {(self.folder / 'server.log').read_text()[-2000:]}")

    def signal(self, number: int) -> None:
        """Send a signal to it and its workers."""
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End it and its workers at once, as a power cut does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=30)
            self._process = None
