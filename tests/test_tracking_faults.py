"""Recording while the tracking server or the disk fails, for real: stopped, slow, full, gone."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import http.server
import os
import re
import shutil
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import commands
import pytest
from recorded import (
    EPOCHS,
    STUDY,
    TRIALS,
    Server,
    StudyRecorder,
    check_whole,
    curve,
    epoch_metrics,
    record_trial,
    runs_of,
    search,
    values_twice,
)

from mianet.errors import InputError
from tuning.events.log import CURSOR_FILE, count_waiting
from tuning.spec.errors import RecordingError
from tuning.spec.records import StudyDescription
from tuning.tracking.backlog import deliver_waiting


class Proxy(http.server.ThreadingHTTPServer):
    """Hands requests on to a server, or does to them what it is told."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = port
        self.uri = f"http://127.0.0.1:{self.server_port}"
        self.fault: Callable[[_Handler], bool] = lambda _: False
        self.requests = 0
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that gave up."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        self.server.requests += 1
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.server.fault(self):
            self.answer(*self.pass_on())

    do_POST = do_PATCH = do_GET  # noqa: N815

    def pass_on(self) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, self.body, dict(self.headers))
            answer = connection.getresponse()
            return answer.status, answer.read()

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def failing(handler: _Handler) -> bool:
    handler.answer(500, b"<html>broken</html>")
    return True


def unavailable(handler: _Handler) -> bool:
    handler.answer(503, b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "busy"}')
    return True


def slow(handler: _Handler) -> bool:
    time.sleep(1.5)
    return False


def losing_answers() -> Callable[[_Handler], bool]:
    """Return a fault: every third request is carried out, but its answer is lost."""
    lock, seen = threading.Lock(), [0]

    def fault(handler: _Handler) -> bool:
        with lock:
            seen[0] += 1
            lost = seen[0] % 3 == 1
        if lost:
            handler.pass_on()
            handler.close_connection = True
        return lost

    return fault


@pytest.fixture(scope="module")
def server_here(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), empty_database)
    yield server
    server.kill()


@pytest.fixture
def server(server_here: Server) -> Server:
    if not server_here.running:
        server_here.start()
    return server_here


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have requests given up sooner, and pauses be shorter, than in a long search."""
    monkeypatch.setattr("tuning.tracking.requests.DELIVERY_TIMEOUT_SECONDS", 2)
    monkeypatch.setattr("tuning.events.projector.LONGEST_PAUSE_SECONDS", 1.0)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Return a study's and a data set's name that no other test has."""
    return re.sub(r"[^a-z0-9]+", "-", request.node.name)[-50:].strip("-")


def study(name: str) -> StudyDescription:
    return dataclasses.replace(STUDY, name=name, dataset=name)


def folder_of(tmp_path: Path, name: str) -> Path:
    return tmp_path / "storage" / name


FAULTS = {
    "500": lambda: failing,
    "503": lambda: unavailable,
    "slow": lambda: slow,
    "answers lost": losing_answers,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_fails_for_a_while_holds_nobody_up_and_gets_everything(
    fault, server, name, tmp_path, quick
):
    with Proxy(server.port) as proxy:
        recorder = StudyRecorder(proxy.uri, study(name), folder_of(tmp_path, name))
        proxy.fault = FAULTS[fault]()
        waits = search(recorder, pause=0.05)
        asked = proxy.requests
        assert statistics.median(waits) < 0.01
        assert max(waits) < 2
        assert asked >= 1, "it was tried meanwhile"
        proxy.fault = lambda _: False
        recorder.close()
        check_whole(proxy.uri, name)
        assert count_waiting(folder_of(tmp_path, name)) == 0
        proxy.shutdown()


def test_a_server_that_hangs_and_goes_on_gets_everything_once(server, name, tmp_path, quick):
    recorder = StudyRecorder(server.uri, study(name), folder_of(tmp_path, name))
    server.signal(signal.SIGSTOP)
    waits = search(recorder, pause=0.15)  # longer than a request is waited for
    assert max(waits) < 2
    server.signal(signal.SIGCONT)
    recorder.close()
    check_whole(server.uri, name)


def test_a_server_that_is_killed_and_starts_again_gets_everything(server, name, tmp_path, quick):
    recorder = StudyRecorder(server.uri, study(name), folder_of(tmp_path, name))
    restarted = threading.Thread(target=lambda: (server.kill(), time.sleep(2), server.start()))
    restarted.start()
    search(recorder, pause=0.05)
    restarted.join(200)
    recorder.close()
    check_whole(server.uri, name)


def test_a_server_that_is_gone_for_good_is_told_and_another_process_delivers(
    server, name, tmp_path, quick
):
    folder = folder_of(tmp_path, name)
    recorder = StudyRecorder(server.uri, study(name), folder)
    recorder.trial_started("first", TRIALS - 1, {"alpha": float(TRIALS)}, origin="tpe")
    time.sleep(2)  # a part of it arrives
    server.kill()
    search(recorder, TRIALS - 1)
    for epoch in range(1, EPOCHS + 1):
        recorder.epoch_finished("first", epoch, epoch_metrics(0.01 * epoch, 3))
    recorder.trial_ended("first", "finished")
    started = time.monotonic()
    with pytest.raises(
        RecordingError, match=r"saved in .*/events\.jsonl.*python tuning/deliver\.py"
    ):
        recorder.close(deadline_seconds=2)
    assert time.monotonic() - started < 8
    assert count_waiting(folder) > TRIALS * EPOCHS

    storage = str(tmp_path / "storage")
    unreached = commands.run("deliver", "--storage", storage, cwd=tmp_path)
    assert unreached.returncode == 1
    assert "must answer, but" in unreached.stderr
    assert "Traceback" not in unreached.stderr
    server.start()
    done = commands.run("deliver", "--storage", storage, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{name}: ")
    assert f"events delivered to {server.uri}" in done.stdout
    check_whole(server.uri, name)
    again = commands.run("deliver", "--storage", storage, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (
        0,
        f"nothing is waiting to be delivered in {storage}\n",
    )


def test_what_is_delivered_twice_through_a_server_is_there_once(server, name, tmp_path):
    folder = folder_of(tmp_path, name)
    with StudyRecorder(server.uri, study(name), folder) as recorder:
        search(recorder)
    (folder / CURSOR_FILE).unlink()
    with Proxy(server.port) as proxy:
        proxy.fault = losing_answers()
        for _ in range(5):  # it may also fail to open the store
            list(deliver_waiting(tmp_path / "storage", lambda _: proxy.uri))
        proxy.shutdown()
    assert count_waiting(folder) == 0
    check_whole(server.uri, name)


def test_a_server_that_is_away_at_the_start_is_an_error_and_leaves_nothing(server, name, tmp_path):
    server.kill()
    with pytest.raises(InputError, match="must answer"):
        StudyRecorder(server.uri, study(name), folder_of(tmp_path, name))
    assert not list(tmp_path.rglob("*.jsonl"))


# Full disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a disk of 4 MB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root where mounts are allowed")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Fill a disk to its last byte; return the file to delete to make room."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 65536)
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x")
    return ballast


@pytest.mark.parametrize("full", ["database", "log", "both"])
def test_a_full_disk_holds_nobody_up_and_gets_everything_once_there_is_room(
    full, name, small_disk, empty_database, tmp_path, caplog, quick
):
    database = (tmp_path if full == "log" else small_disk) / "mlflow.db"
    shutil.copy(empty_database, database)
    folder = folder_of(tmp_path if full == "database" else small_disk, name)
    uri = f"sqlite:///{database}"
    recorder = StudyRecorder(uri, study(name), folder)
    record_trial(recorder, 9, [0.5])
    time.sleep(1.5)
    ballast = fill(small_disk)
    waits = search(recorder, pause=0.1)
    assert max(waits) < 2
    if full != "database":
        assert caplog.text.count("keeps its events in memory; free some disk space") == 1
    if full == "database":
        assert caplog.text.count("does not accept records") == 1
        assert "full" in caplog.text
    ballast.unlink()
    time.sleep(2.5)  # the search goes on
    recorder.close()
    runs = runs_of(uri)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert len(runs) == TRIALS + 2
    for number in range(TRIALS):
        wanted = [(e, 0.01 * e) for e in range(1, EPOCHS + 1)]
        assert curve(uri, runs[f"trial {number:03d}"], "val_harmonic_mean") == wanted
    assert values_twice(uri) == []
    assert count_waiting(folder) == 0
    with StudyRecorder(uri, study(name), folder) as again:
        search(again)
    assert values_twice(uri) == [], "the log is whole again"


def test_a_full_disk_at_the_start_is_an_error_and_leaves_nothing(
    name, small_disk, empty_database, tmp_path
):
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    ballast = fill(small_disk)
    with pytest.raises(InputError, match=r"event log must be .*No space left.*free some space"):
        StudyRecorder(uri, study(name), folder_of(small_disk, name))
    assert not list(small_disk.rglob("*.jsonl"))
    ballast.unlink()
    assert runs_of(uri) == {}
