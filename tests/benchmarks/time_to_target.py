"""Wall time until a search has found a configuration of a given quality, against plain Ray Tune.

    python tests/benchmarks/time_to_target.py --dataset AWA1 --data-dir DIR --target 7 --epochs 10
    python tests/benchmarks/time_to_target.py --dataset synthetic:apy --target 60 --epochs 5

Runs ``tuning/search.py`` and then ``plain_tune.py`` (random search with a function trainable, no
early stopping, Tune's MLflow callback, a DataLoader, executions in turn) on the same data and
machine, with as many workers as there are cores, for some seeds each. Prints the seconds from the
start of the process to the first trial whose mean validation H over five executions reaches the
target at some epoch, and the ratio of the means. A run that does not reach it within ``--seconds``
counts with all of them, which favours the slower.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEARCH = HERE.parents[1] / "tuning" / "search.py"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--target", type=float, required=True, help="validation H in percent")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--plain-seeds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3600.0)
    arguments = parser.parse_args()
    data = ["--dataset", arguments.dataset]
    if arguments.data_dir:
        data += ["--data-dir", str(arguments.data_dir.resolve())]
    ours = [_told(ours_seconds, arguments, data, seed) for seed in range(arguments.seeds)]
    plain = [_told(plain_seconds, arguments, data, seed) for seed in range(arguments.plain_seeds)]
    print(
        f"{arguments.dataset}, H of {arguments.target}% within {arguments.epochs} epochs: "
        f"ours {statistics.fmean(ours):.1f} s, plain {statistics.fmean(plain):.1f} s, "
        f"ratio {statistics.fmean(plain) / statistics.fmean(ours):.1f}"
    )


def _told(function, arguments, data, seed):
    seconds = function(arguments, data, seed)
    print(f"{function.__name__}, seed {seed}: {seconds:.1f}", flush=True)
    return seconds


def ours_seconds(arguments, data, seed):
    """Return when the ledger of our search first holds an epoch of the target's score."""
    options = [
        "--study", "ours", "--max-epochs", str(arguments.epochs), "--trials", "1000",
        "--time-budget", f"{arguments.seconds:.0f}s", "--seed", str(seed),
        "--no-final", "--fresh-draws", "0",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        search = _started([str(SEARCH), *data, *options], folder)
        ledger = Path(folder, "ray_results", "ours", "ledger.jsonl")
        try:
            while search.poll() is None and time.monotonic() - begun < arguments.seconds:
                if 100 * _best(ledger) >= arguments.target:
                    return time.monotonic() - begun
                time.sleep(0.2)
        finally:
            search.send_signal(signal.SIGINT)
            search.wait(120)
        return arguments.seconds


def plain_seconds(arguments, data, seed):
    options = [
        "--epochs", str(arguments.epochs), "--target", str(arguments.target),
        "--seconds", str(arguments.seconds), "--seed", str(seed),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        plain = _started([str(HERE / "plain_tune.py"), *data, *options], folder)
        told, _ = plain.communicate(timeout=arguments.seconds + 600)
        print("\n".join(line for line in told.splitlines() if "reported in" in line), flush=True)
        if plain.returncode:
            raise SystemExit(f"error: plain_tune.py ended with {plain.returncode}\n{told}")
        reached = re.search(r"reached after ([\d.]+) s", told)
        return float(reached[1]) if reached else arguments.seconds


def _started(command, folder):
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "RAY_ADDRESS": "local"},
        stdout=subprocess.PIPE if "plain_tune.py" in command[0] else subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _best(ledger):
    if not ledger.exists():
        return 0.0
    lines = ledger.read_text().split("\n")[:-1]
    return max((json.loads(line).get("score", 0.0) for line in lines), default=0.0)


if __name__ == "__main__":
    main()
