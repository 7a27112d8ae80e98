"""The project's commands as a user runs them: processes, with time limits."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMALL = ("--set", "hidden_dim=48", "--executions", "2", "--max-epochs", "3")
"""Options that make a search of the digits a matter of seconds."""


def environment(**changes):
    """Return this environment without what would point a command elsewhere."""
    hidden = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "MIANET_DATA_DIR", "MIANET_CACHE_DIR")
    return {k: v for k, v in os.environ.items() if k not in hidden} | changes


def start(script, *options, cwd, **changes):
    """Start ``python tuning/<script>.py`` in a folder, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tuning" / f"{script}.py"), *options],
        cwd=cwd,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
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
