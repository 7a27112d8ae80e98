"""Python scripts that start at once: forks of a small process that has their imports behind it.

``python tests/forks.py --serve SERVER MODULE...`` is that process; it ends with the one that
started it. ``SERVER`` is its socket. A request names a script with its arguments and brings three
files; the answer is the pid, and the exit status in the end. A script ends with the process that
asked for it.

Ray's workers are such scripts after ``fork_workers``: importing PyTorch is most of what the worker
of a small search does. Ray starts this file with the worker's command, which asks for the fork.
"""

import atexit
import contextlib
import functools
import importlib
import inspect
import json
import os
import random
import runpy
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

WORKERS = "FORKS_OF_RAY_WORKERS"
"""The environment variable that says who forks Ray's workers; empty or absent for nobody."""
WORKER_IMPORTS = (
    *("mianet.validation", "optuna.distributions", "pandas", "pyarrow", "pydantic", "requests"),
)
"""What a worker imports beside Ray, which learns at its import which job it works for."""
RECORDING = ("mlflow.pyfunc", "optuna", "sqlalchemy", "torch", "uvicorn", "mlflow.cli")
"""What recording and its server take long to import; nothing of the project is among it."""
_NUMBER = struct.Struct("i")


@functools.cache
def server(*imports):
    """Start a process that has imported these modules, once, and return its socket's path."""
    path = os.path.join(tempfile.mkdtemp(prefix="forks-"), "socket")
    command = [sys.executable, __file__, "--serve", path, *imports]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, **pipes)
    process.stdout.readline()  # it listens
    _SERVERS.append(process)
    return path


_SERVERS: list[subprocess.Popen] = []


class Fork:
    """A script that runs in a fork; what is used of a ``Popen``.

    Args:
        server: As ``server`` returns it.
        command: The script and its arguments.
        files: Its standard input, output and error output, as numbers.
        variables: What its environment has besides this process's.
    """

    def __init__(self, server, command, files, **variables):
        environment = {**os.environ, **variables}
        request = {"command": command, "folder": os.getcwd(), "environment": environment}
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(server)
        socket.send_fds(self._connection, [b"\n"], files)
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        self.returncode = None
        self.pid = self._number()

    def wait(self, timeout=None):
        """Return the exit status; ``TimeoutError`` where the script has not ended by then."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            self.returncode = self._number()
            self._connection.close()
        return self.returncode

    def poll(self):
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def kill(self):
        if self.returncode is None:
            self._connection.shutdown(socket.SHUT_WR)

    def _number(self):
        return _NUMBER.unpack(self._connection.recv(_NUMBER.size, socket.MSG_WAITALL))[0]


def run_code(code, *arguments, imports=RECORDING, timeout=120):
    """Run Python code to its end in a fork that has these modules imported.

    Return what ``subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True,
    text=True)`` would; imports are most of the time of such a process.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as files:
        script, out, err = (Path(folder, name) for name in ("script.py", "out", "err"))
        script.write_text(code)
        opened = ((os.devnull, "r"), (out, "w"), (err, "w"))
        streams = [files.enter_context(open(path, mode)) for path, mode in opened]
        command = [str(script), *map(str, arguments)]
        fork = Fork(server(*imports), command, [stream.fileno() for stream in streams])
        try:
            status = fork.wait(timeout)
        except TimeoutError:
            fork.kill()
            raise
        return subprocess.CompletedProcess(arguments, status, out.read_text(), err.read_text())


def fork_workers(patch):
    """Have every Ray that this process starts fork its workers, and run only what a search needs.

    The dashboard, the monitors of logs and of the autoscaler are left out.
    """
    from ray._private import services
    from ray._private.node import Node

    original = services.start_raylet
    signature = inspect.signature(original)

    def start_raylet(*args, **options):
        bound = signature.bind(*args, **options)
        bound.arguments["setup_worker_path"] = __file__
        return original(*bound.args, **bound.kwargs)

    patch.setattr(services, "start_raylet", start_raylet)
    # As if ray[default] were not installed.
    patch.setitem(sys.modules, "ray.dashboard.optional_deps", None)
    for part in ("start_api_server", "start_log_monitor", "start_monitor"):
        patch.setattr(Node, part, lambda *_, **__: None)


@contextlib.contextmanager
def forked_workers():
    """Do so, for what happens inside."""
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WORKERS, server(*WORKER_IMPORTS))
        fork_workers(patch)
        yield


def _serve(path, *imports):
    del sys.path[0]  # the tests
    for name in imports:
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    events = selectors.DefaultSelector()
    events.register(listener, selectors.EVENT_READ)
    events.register(sys.stdin, selectors.EVENT_READ)
    print("listens", flush=True)
    while True:
        for key, _ in events.select():
            if key.fileobj is listener:
                _start(listener.accept()[0], events)
            elif key.fileobj is sys.stdin:
                os._exit(0)
            else:
                key.data()


def _start(connection, events):
    """Fork for a request; have the fork watched, and the connection to who asked for it."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as stream:
        request = json.loads(stream.readline())
    pid = os.fork()
    if not pid:
        _run(request, files)
    for file in files:
        os.close(file)
    connection.sendall(_NUMBER.pack(pid))
    process = os.pidfd_open(pid)
    running = [True]

    def ended():
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        running.clear()
        for file in (process, connection):
            events.unregister(file)
        os.close(process)
        with contextlib.suppress(OSError):  # who asked for it may have ended meanwhile
            connection.sendall(_NUMBER.pack(code))
        connection.close()

    def asker_ended():
        if running:
            os.kill(pid, signal.SIGKILL)

    events.register(process, selectors.EVENT_READ, ended)
    events.register(connection, selectors.EVENT_READ, asker_ended)


def _run(request, files):
    """Be the script."""
    os.setpgrp()  # Ray kills a worker's whole group
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    random.seed()
    sys.argv = request["command"]
    code = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    atexit._run_exitfuncs()  # which a fork leaves out
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def _ask_for_worker():
    """Be in the place of Ray's ``setup_worker.py``."""
    context = "--serialized-runtime-env-context="
    for argument in sys.argv[1:]:
        if argument.startswith(context):
            os.environ.update(json.loads(argument.removeprefix(context)).get("env_vars", {}))
    command = [a for a in sys.argv[1:] if not a.startswith((context, "--language="))]
    sys.exit(Fork(os.environ[WORKERS], command, (0, 1, 2)).wait())


if __name__ == "__main__":
    _serve(*sys.argv[2:]) if sys.argv[1] == "--serve" else _ask_for_worker()
