"""The project's commands as a user runs them: processes, with time limits."""

import atexit
import contextlib
import functools
import importlib
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import forks
import pytest
from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader, Config

from tuning.cli import after_search
from tuning.tracking.store import open_store

ROOT = Path(__file__).resolve().parent.parent
SMALL = (
    *("--set", "hidden_dim=48", "--executions", "2", "--max-epochs", "3"),
    *("--fresh-draws", "0"),
)
"""Options that make a search of ``numbers`` a matter of seconds."""


RAY = {"RAY_ADDRESS": "local"}
"""Each command has a Ray of its own, unless the fixture ``one_ray`` changes this."""


def environment(**changes):
    """Return this environment without what would point a command elsewhere.

    A cluster that happens to run on the machine is left alone.
    """
    hidden = ("MLFLOW_TRACKING_URI", "MIANET_DATA_DIR", "MIANET_CACHE_DIR")
    return {k: v for k, v in os.environ.items() if k not in hidden} | RAY | changes


def start(script, *options, cwd, output=None, **changes):
    """Start ``python tuning/<script>.py`` in a folder, in a process group of its own.

    What it prints goes to pipes, or is added to a file.
    """
    with contextlib.nullcontext() if output is None else open(output, "a") as file:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "tuning" / f"{script}.py"), *options],
            cwd=cwd,
            env=environment(**changes),
            stdout=file or subprocess.PIPE,
            stderr=file or subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def fork(script, *options, cwd, out="output", err="output", before=None, **changes):
    """Start it in a process that has its imports behind it, in a process group of its own.

    Imports are most of a short command's time. What it prints is added to files of its folder.

    Args:
        script: The command.
        options: Its options.
        cwd: Its folder.
        out: The file of what it says.
        err: The file of its errors.
        before: Called in the process before the command; can be pickled.
        changes: Environment variables.
    """
    variables = environment(**{forks.WORKERS: forks.server(*forks.WORKER_IMPORTS), **changes})
    arguments = (script, options, cwd, variables, out, err, before, empty_database())
    process = _forks().Process(target=_be, args=arguments)
    process.start()
    return process


@functools.cache
def empty_database():
    """Return a database that MLflow has made (a second of migrations, once)."""
    path = Path(tempfile.mkdtemp(), "mlflow.db")
    open_store(f"sqlite:///{path}")
    return path


def _copy_tables(database):
    """Have MLflow copy a database where it would make one."""
    from mlflow.store.db import utils

    def initialize(engine):
        with contextlib.closing(sqlite3.connect(database)) as made:
            connection = engine.raw_connection()
            made.backup(connection.driver_connection)
            connection.close()

    utils._initialize_tables = initialize


@functools.cache
def _forks():
    context = multiprocessing.get_context("forkserver")
    commands = ("run_search", "confirm_study", "train_and_test", "write_report")
    context.set_forkserver_preload([f"tuning.cli.{name}" for name in commands])
    return context


def _be(script, options, folder, variables, out, err, before, database):
    os.setsid()
    _copy_tables(database)
    os.chdir(folder)
    for number, name in ((1, out), (2, err)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout = os.fdopen(1, "w", closefd=False)  # line by line to a terminal
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    after_search.subprocess = SimpleNamespace(run=_forker())
    _main(script, options, variables, before)


def _main(script, options, variables, before=None):
    """Be a command, to its end."""
    os.environ.clear()
    os.environ.update(variables)
    # Ray read its settings and the token when the process that this is forked from was started.
    on_loopback = variables.get(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR) == "0"
    ray_constants.ENABLE_RAY_CLUSTER = not on_loopback
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
    if variables.get(forks.WORKERS):
        forks.fork_workers(pytest.MonkeyPatch())
    if before:
        before()
    sys.argv = [f"{script}.py", *options]
    try:
        importlib.import_module(f"tuning.{script}").main()
    finally:
        atexit._run_exitfuncs()  # which a fork leaves out: Ray ends by one


def _forker():
    """Fork a process, while this one has no threads, that forks the commands a search starts.

    Return what takes the place of ``subprocess.run``.
    """
    ours, theirs = multiprocessing.Pipe()
    if os.fork():
        theirs.close()

        def run(command, *, env, check):
            ours.send((command, dict(env)))
            return subprocess.CompletedProcess(command, ours.recv())

        return run
    ours.close()
    with contextlib.suppress(EOFError):
        while True:
            (_, _, _, module, *options), variables = theirs.recv()
            command = multiprocessing.get_context("fork").Process(
                target=_main, args=(module.removeprefix("tuning."), options, variables)
            )
            command.start()
            command.join()
            theirs.send(command.exitcode)
    os._exit(0)


def run(script, *options, cwd, timeout=240, **changes):
    """Run it to its end; return the finished process with its output."""
    with tempfile.TemporaryDirectory() as folder:
        said = {name: os.path.join(folder, name) for name in ("out", "err")}
        process = fork(script, *options, cwd=cwd, **said, **changes)
        process.join(timeout)
        texts = [Path(path).read_text() for path in said.values()]
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(script, timeout, *texts)
    return subprocess.CompletedProcess([script, *options], process.exitcode, *texts)
