"""Recording to PostgreSQL, directly and through a server: skips where there is none."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from recorded import (
    STUDY,
    Server,
    StudyRecorder,
    check_whole,
    free_port,
    record_trial,
    runs_of,
    search,
)

from mianet.addresses import without_credentials
from mianet.errors import InputError
from tuning.events.log import CURSOR_FILE, LOG_FILE, count_waiting
from tuning.tracking.backlog import deliver_waiting
from tuning.tracking.reading import read_trials
from tuning.tracking.store import open_store

pytest.importorskip("psycopg2", reason="the driver is not installed: pip install psycopg2-binary")

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


class Postgres:
    """A PostgreSQL of our own on a free port; it runs as ``postgres`` where we are root."""

    def __init__(self) -> None:
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self._folder = Path(tempfile.mkdtemp(prefix="mianet-postgres-", dir="/tmp"))
        if self._as:
            shutil.chown(self._folder, "postgres")
        self.port = free_port()
        self.uri = f"postgresql+psycopg2://me:secret@127.0.0.1:{self.port}/postgres"
        password = self._folder / "password"
        password.write_text("secret")
        password.chmod(0o644)
        self._run("initdb", "-D", self._data, "-U", "me", "-A", "md5", f"--pwfile={password}", "-N")

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def start(self) -> None:
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -F"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", self._data, "-o", options, "-l", log, "-w", "-t", "120", "start")

    def stop(self) -> None:
        """Stop it at once, as a crash does."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "stop")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def _run(self, program: str, *options: str) -> None:
        subprocess.run(
            [*self._as, str(PROGRAMS[-1] / program), *options],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=180,
        )


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    if not PROGRAMS:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    postgres = Postgres()
    postgres.start()
    open_store(postgres.uri)  # makes its tables
    yield postgres
    postgres.remove()


@pytest.fixture(scope="module")
def uri(
    postgres: Postgres, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Return the address of the store: the database itself, or a server before it."""
    if request.param == "direct":
        yield postgres.uri
        return
    server = Server(tmp_path_factory.mktemp("server"), address=postgres.uri)
    server.start()
    yield server.uri
    server.kill()


either_way = pytest.mark.parametrize("uri", ["direct", "server"], indirect=True)


def named(name: str, uri: str):
    name = f"{name}-{uri.partition(':')[0].partition('+')[0]}"
    return dataclasses.replace(STUDY, name=name, dataset=name)


@either_way
def test_a_study_is_recorded_gone_on_with_and_delivered_again_once(uri, tmp_path):
    study = named("whole", uri)
    folder = tmp_path / "study"
    first = StudyRecorder(uri, study, folder)
    search(first, 2)
    first.abandon()
    with StudyRecorder(uri, study, folder) as second:
        search(second, 3)
    check_whole(uri, study.name)
    (folder / CURSOR_FILE).unlink()
    (line,) = deliver_waiting(
        tmp_path, lambda recorded: uri if recorded == without_credentials(uri) else ""
    )
    assert not line.reason
    assert "secret" not in str(line) + (folder / LOG_FILE).read_text()
    check_whole(uri, study.name)
    assert [trial.number for trial in read_trials(uri, study.dataset)] == [0, 1, 2]


@either_way
def test_texts_that_postgresql_does_not_take_break_nothing(uri):
    study = dataclasses.replace(named("texts", uri), data_source="zero \0 and \N{SNOWMAN}")
    with StudyRecorder(uri, study) as recorder:
        recorder.trial_started("t", 0, {"alpha": 1.0, "name": "a\0b" * 5000}, origin="tpe")
        recorder.trial_ended("t", "failed", reason="\0" + "x\N{SNOWMAN}" * 9000)
    runs = runs_of(uri, study=study.name)
    assert len(runs["trial 000"].data.params["name"]) == 6000
    assert "\N{SNOWMAN}" in runs["trial 000"].data.tags["reason"]


@either_way
def test_a_database_that_crashes_in_the_middle_gets_everything_once(postgres, uri, tmp_path):
    study = named("crash", uri)
    folder = tmp_path / "study"
    recorder = StudyRecorder(uri, study, folder)
    crash = threading.Thread(target=lambda: (postgres.stop(), time.sleep(2), postgres.start()))
    crash.start()
    waits = search(recorder, pause=0.05)
    crash.join(200)
    recorder.close()
    assert max(waits) < 2
    check_whole(uri, study.name)
    assert count_waiting(folder) == 0


@either_way
def test_two_writers_lose_nothing(uri):
    studies = [named(name, uri) for name in ("left", "right")]
    shared = [dataclasses.replace(study, dataset=studies[0].dataset) for study in studies]
    recorders = [StudyRecorder(uri, study) for study in shared]
    for number in range(10):
        for recorder in recorders:
            record_trial(recorder, number, [0.1, 0.2])
    for recorder in recorders:
        recorder.close()
    assert len(read_trials(uri, studies[0].dataset)) == 20
    experiment = MlflowClient(uri).get_experiment_by_name(f"mianet-{studies[0].dataset}")
    assert experiment is not None


def test_a_wrong_password_is_an_error_that_does_not_tell_the_right_one(postgres):
    wrong = postgres.uri.replace("secret", "guess")
    with pytest.raises(InputError, match=r"must answer, but .*me:\*\*\*@127") as error:
        StudyRecorder(wrong, STUDY)
    assert "guess" not in str(error.value)
