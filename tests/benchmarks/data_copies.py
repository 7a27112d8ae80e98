"""How many copies of a data set's features the processes of a search hold in memory together.

    python tests/benchmarks/data_copies.py [--dataset synthetic:awa1] [--workers 4] [--data-dir DIR]

Runs a short search and sums, over its driver, its workers and Ray's own processes, the proportional
share (PSS: a page that n processes map counts 1/n for each) of what they map of the store and
of Ray's object store. Prints the most that was seen at a time, in copies of the features; a copy in
each process is the baseline.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mianet.data.search_data import load_search_data

SEARCH = Path(__file__).resolve().parents[2] / "tuning" / "search.py"
SECONDS = 600


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="synthetic:awa1")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--workers", type=int, default=4)
    arguments = parser.parse_args()
    size = load_search_data(arguments.dataset, arguments.data_dir).features.nbytes
    most, processes = {}, 0
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        search = stack.enter_context(started(arguments, folder))
        deadline = time.monotonic() + SECONDS
        while search.poll() is None and time.monotonic() < deadline:
            seen, count = mapped(search.pid)
            if sum(seen.values()) > sum(most.values()):
                most, processes = seen, count
            time.sleep(0.5)
    print(f"{arguments.dataset}: {size / 1e6:.0f} MB of features, {processes} processes map them")
    for name, held in most.items():
        print(f"{name:20}{held / 1e6:8.0f} MB")
    copies = sum(most.values()) / size
    each = arguments.workers + 1
    print(f"{copies:.2f} copies; one in the driver and each worker would be {each}")


@contextlib.contextmanager
def started(arguments, folder):
    data = ["--data-dir", str(arguments.data_dir.resolve())] if arguments.data_dir else []
    command = [
        sys.executable, str(SEARCH), "--dataset", arguments.dataset, *data, "--no-final",
        "--workers", str(arguments.workers), "--trials", str(2 * arguments.workers),
        "--max-epochs", "2", "--executions", "2", "--fresh-draws", "0",
        "--set", "hidden_dim=64",
    ]  # fmt: skip
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    process = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def mapped(driver):
    """Return name of a store → bytes that all processes together hold of it, and how many do."""
    held, processes = {"store": 0, "Ray's object store": 0}, 0
    for process in family(driver):
        with contextlib.suppress(OSError):
            of_process = _mapped(Path(f"/proc/{process}/smaps").read_text())
            processes += any(of_process.values())
            for name, size in of_process.items():
                held[name] += size
    return held, processes


def family(root):
    """Return a process and all that descend from it."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = stat.read_text().rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(int(stat.parent.name))
    found = [root]
    for process in found:
        found.extend(children.get(process, []))
    return found


def _mapped(smaps):
    held = {"store": 0, "Ray's object store": 0}
    name = None
    for line in smaps.splitlines():
        first = line.split(maxsplit=1)[0]
        if not first.endswith(":"):
            name = (
                "store" if line.endswith((".npy", ".npy (deleted)"))
                else "Ray's object store" if "plasma" in line
                else None
            )  # fmt: skip
        elif name and first == "Pss:":
            held[name] += 1024 * int(line.split()[1])
    return held


if __name__ == "__main__":
    main()
