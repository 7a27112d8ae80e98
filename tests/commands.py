"""The project's commands as a user runs them: processes, with time limits."""

import atexit
import contextlib
import importlib
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SMALL = (
    *("--set", "hidden_dim=48", "--executions", "2", "--max-epochs", "3"),
    *("--fresh-draws", "0"),
)
"""Options that make a search of the digits a matter of seconds."""

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["tuning.search", "tuning.final", "ray.tune", "mlflow", "torch"])


def environment(**changes):
    """Return this environment without what would point a command elsewhere.

    Ray is the command's own: a cluster that happens to run on the machine is left alone.
    """
    hidden = ("MLFLOW_TRACKING_URI", "MIANET_DATA_DIR", "MIANET_CACHE_DIR")
    own = {"RAY_ADDRESS": "local"}
    return {k: v for k, v in os.environ.items() if k not in hidden} | own | changes


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


def run_afresh(script, *options, cwd, timeout=240, **changes):
    """Run a command to its end as a user does; return the finished process with its output."""
    process = start(script, *options, cwd=cwd, **changes)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def begin(script, *options, cwd, **changes):
    """Begin a command in a process that has the seconds of its imports behind it.

    What it prints is added to the files ``out`` and ``err`` beside the folder.
    """
    Path(cwd).mkdir(exist_ok=True)
    process = _FORKED.Process(target=_be, args=(script, options, str(cwd), environment(**changes)))
    process.start()
    return process


def printed(cwd):
    """Return what the commands that were begun in a folder printed: to stdout, to stderr."""
    return tuple(Path(f"{cwd}-{name}").read_text() for name in ("out", "err"))


def ended(process, seconds=400):
    """Wait for a command that was begun; return its exit code."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        pytest.fail("a command did not end")
    return process.exitcode


def run(script, *options, cwd, timeout=240, **changes):
    """Begin a command and wait for its end; return it like a process of its own."""
    for name in ("out", "err"):
        Path(f"{cwd}-{name}").unlink(missing_ok=True)
    code = ended(begin(script, *options, cwd=cwd, **changes), timeout)
    return subprocess.CompletedProcess([script, *options], code, *printed(cwd))


def _be(script, options, cwd, variables):
    """Be the command ``script``."""
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    os.setsid()
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{cwd}-{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.argv = [f"{script}.py", *options]
    try:
        importlib.import_module(f"tuning.{script}").main()
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out
