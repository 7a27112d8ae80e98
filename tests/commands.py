"""The project's commands as a user runs them: processes, with time limits."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMALL = (
    *("--set", "hidden_dim=48", "--executions", "2", "--max-epochs", "3"),
    *("--fresh-draws", "0"),
)
"""Options that make a search of ``numbers`` a matter of seconds."""


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


def run(script, *options, cwd, timeout=240, **changes):
    """Run it to its end; return the finished process with its output."""
    process = start(script, *options, cwd=cwd, **changes)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
