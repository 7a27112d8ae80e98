"""What other users of the same machine can see, reach and change while a search runs."""

import contextlib
import multiprocessing
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import ray
from ray._private import ray_constants

from mianet.errors import InputError
from tuning.compute import connection, local_ray

INTRUDER = 54321
"""A user id that nobody has."""

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")


@contextlib.contextmanager
def as_intruder(function, *arguments):
    """Call a function in a process of another user; yield what it returns, or its error."""
    context = multiprocessing.get_context("fork")  # other users may not start this Python
    ours, theirs = context.Pipe()
    process = context.Process(target=_as_intruder, args=(theirs, function, arguments))
    process.start()
    try:
        assert ours.poll(60)
        yield ours.recv()
    finally:
        process.kill()
        process.join(10)


def _as_intruder(pipe, function, arguments):
    os.setgroups([])
    os.setresgid(INTRUDER, INTRUDER, INTRUDER)
    os.setresuid(INTRUDER, INTRUDER, INTRUDER)
    try:
        pipe.send(function(*arguments))
    except OSError as error:
        pipe.send(error)
    pipe.recv()  # keeps its sockets open until it is killed


@pytest.fixture(scope="module")
def temporary():
    """A folder that every user can enter, as /tmp; short, since sockets go into it."""
    folder = Path(tempfile.mkdtemp(prefix="g", dir="/tmp"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def running(temporary):
    """Return the address and the folder of a local Ray, started as by a search."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(temporary))
        patch.setenv("RAY_ADDRESS", "")
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR):
            patch.setenv(name, "")  # so that what the start sets is undone
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.chdir(temporary)
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)
        old = os.umask(0)
        try:
            connection.connect(preloaded="mianet.training")
            yield ray.get_runtime_context().gcs_address, temporary / f"mianet-{os.getuid()}"
        finally:
            os.umask(old)
            ray.shutdown()


READ_KEYS = """
import sys
from ray._raylet import GcsClient
print(GcsClient(address=sys.argv[1]).internal_kv_keys(b"", b"fun", timeout=10))
"""


def test_ray_lets_in_nobody_without_the_token(running):
    address, _ = running
    stranger = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    told = {}
    for who, environment in {"we": os.environ, "a stranger": stranger}.items():
        told[who] = subprocess.run(
            [sys.executable, "-c", READ_KEYS, address],
            env={**environment, "HOME": "/nonexistent"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert told["we"].stdout.startswith("[")
    assert told["a stranger"].stdout == ""
    assert "AuthenticationError" in told["a stranger"].stderr


def listening(pids):
    """Return the addresses on which these processes listen, as /proc writes them."""
    sockets = set()
    for pid in pids:
        for file in Path("/proc", str(pid), "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it has just been closed
                sockets.add(os.readlink(file))
    rows = [
        row.split()
        for table in ("tcp", "tcp6")
        for row in Path("/proc/net", table).read_text().splitlines()[1:]
    ]
    return [
        row[1].rpartition(":")[0]
        for row in rows
        if row[3] == "0A" and f"socket:[{row[9]}]" in sockets
    ]


def descendants(pid):
    """Return a process and all below it."""
    children = []
    for thread in Path("/proc", str(pid), "task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            children += (thread / "children").read_text().split()
    return [pid, *(below for child in children for below in descendants(int(child)))]


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


def test_ray_listens_on_loopback_only(running):
    addresses = listening(descendants(os.getpid()))
    assert len(addresses) > 5
    assert set(addresses) <= LOOPBACK


@needs_root
def test_ray_s_files_and_sockets_are_closed_to_others(running):
    _, folder = running
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (plasma,) = folder.glob("ray/session_2*/sockets/plasma_store")

    def connect():
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(plasma))

    for attempt in (lambda: os.listdir(folder / "ray"), connect):
        with as_intruder(attempt) as outcome:
            assert isinstance(outcome, PermissionError)


def test_the_token_is_on_no_disk(running):
    _, folder = running
    token = os.environ["RAY_AUTH_TOKEN"].encode()
    assert len(token) == 64
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if token in path.read_bytes()]
    for pid in descendants(os.getpid()):
        assert token not in Path("/proc", str(pid), "cmdline").read_bytes()


def test_workers_have_imported_what_they_need_before_they_are_asked(running):
    loaded = ray.remote(lambda: "mianet.training" in sys.modules)
    assert ray.get(loaded.remote(), timeout=60)


def test_workers_import_nothing_from_the_current_folder(running, temporary):
    @ray.remote
    def path():
        return sys.path

    assert str(temporary) not in ray.get(path.remote(), timeout=60)


@pytest.fixture
def asked(monkeypatch):
    """Return what Ray is asked for, instead of asking it."""
    calls = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: calls.append(options["address"]))
    monkeypatch.setattr(local_ray, "start", lambda _: calls.append("a Ray of its own"))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    return calls


def listen():
    """Listen on a port of this machine until the test ends; return it."""
    _open.append(socket.create_server(("127.0.0.1", 0)))
    return _open[-1].getsockname()[1]


_open = []


@pytest.fixture(autouse=True)
def _closed():
    yield
    while _open:
        _open.pop().close()


def plant(folder, port, monkeypatch):
    """Leave the traces of a cluster that was started on this machine."""
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    (folder / "ray").mkdir()
    (folder / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}")


def test_a_cluster_that_happens_to_run_is_left_alone(asked, tmp_path, monkeypatch):
    plant(tmp_path, listen(), monkeypatch)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert connection.connect() == "a local Ray instance"
    assert asked == ["a Ray of its own"]


def test_auto_joins_a_cluster_of_one_s_own_and_says_which(asked, monkeypatch, capsys):
    address = f"127.0.0.1:{listen()}"
    monkeypatch.setattr(connection, "canonicalize_bootstrap_address", lambda _: address)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert not connection.starts_here()
    connection.connect()
    assert asked == [address]
    assert capsys.readouterr().out.count(f"joining the Ray cluster at {address}") == 1


@needs_root
def test_auto_joins_no_cluster_of_another_user(asked, monkeypatch):
    with as_intruder(listen) as port:
        address = f"127.0.0.1:{port}"
        monkeypatch.setattr(connection, "canonicalize_bootstrap_address", lambda _: address)
        monkeypatch.setenv("RAY_ADDRESS", "auto")
        with pytest.raises(InputError, match="must find a cluster of yours"):
            connection.connect()
    assert asked == []


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_token_that_others_can_read_is_refused(asked, tmp_path, monkeypatch, mode):
    path = tmp_path / "auth_token"
    path.write_text("0" * 64)
    path.chmod(mode)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{listen()}")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    with pytest.raises(InputError, match="must be readable only by you"):
        connection.connect()
    path.chmod(0o600)
    connection.connect()
    assert len(asked) == 1


def others_folder(folder):
    (folder / f"mianet-{os.getuid()}").mkdir()
    os.chown(folder / f"mianet-{os.getuid()}", INTRUDER, INTRUDER)


def link(folder):
    (folder / "elsewhere").mkdir()
    (folder / f"mianet-{os.getuid()}").symlink_to(folder / "elsewhere")


FOLDERS = {
    "another user's": (others_folder, "must be in a folder that only you control"),
    "a link": (link, "must be in a folder that only you control"),
    "open to replacement": (lambda f: f.chmod(0o777), "must be in a folder that only you control"),
    "a file": (lambda f: (f / f"mianet-{os.getuid()}").touch(), "must be writable"),
}


@pytest.mark.parametrize(("make", "words"), FOLDERS.values(), ids=FOLDERS)
def test_ray_does_not_start_in_a_folder_that_others_control(monkeypatch, make, words):
    if make is others_folder and os.getuid() != 0:
        pytest.skip("only root can make a folder of another user")
    with tempfile.TemporaryDirectory(prefix="g", dir="/tmp") as name:
        make(Path(name))
        monkeypatch.setenv("RAY_TMPDIR", name)
        with pytest.raises(InputError, match=words) as refused:
            local_ray.start()
    assert "RAY_TMPDIR" in str(refused.value)
