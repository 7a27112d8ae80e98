"""What a search does before its first epoch: ``python tests/benchmarks/first_epoch.py``.

Each run is a search in a new folder with a database of its own, ended after its first epoch. Where
other work shares the machine, the processor seconds of the search and of Ray's processes say more
than the clock does: two quiet cores take at least half of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MARKS = ("data loaded", "Ray and record ready", "first proposal", "first epoch")
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="numbers")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    runs = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(timeline(options.dataset, Path(folder)))
        print(" | ".join(f"{mark} {a:.1f} s, {b:.1f} CPU s" for mark, (a, b) in runs[-1].items()))
    for mark in MARKS:
        clock, cpu = (statistics.median(run[mark][k] for run in runs) for k in (0, 1))
        print(f"{mark:22} {clock:6.1f} s by the clock {cpu:6.1f} s of processors")


def timeline(dataset: str, folder: Path) -> dict[str, tuple[float, float]]:
    """Return mark → seconds since the command, and processor seconds of all its processes."""
    command = [sys.executable, str(ROOT / "tuning/search.py"), "--dataset", dataset, "--no-final"]
    started = time.time()
    process = subprocess.Popen(
        [*command, "--study", "timed", "--fresh-draws", "0"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        marks = {}
        for mark, word in zip(MARKS, ("connecting to Ray", "up to"), strict=False):
            while word not in process.stdout.readline():
                pass
            marks[mark] = (time.time() - started, processors(process.pid))
        log = folder / "ray_results" / "timed" / "events.jsonl"
        for mark, event in zip(MARKS[2:], ("proposed", "epoch"), strict=True):
            when = wait_for(log, event)
            marks[mark] = (when - started, processors(process.pid))
        return marks
    finally:
        for one in family(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        process.wait()


def wait_for(log: Path, event: str) -> float:
    """Return when the first event of a kind was written."""
    while True:
        for line in log.read_text().splitlines() if log.exists() else ():
            if f'"event":"{event}"' in line:
                return json.loads(line)["time_ms"] / 1000
        time.sleep(0.05)


def processors(root: int) -> float:
    """Return the processor seconds of a process and of all its descendants that live."""
    return sum(sum(map(int, fields[11:15])) for fields in family(root).values()) / TICKS


def family(root: int) -> dict[int, list[str]]:
    """Return process → its fields in ``/proc``, of a process and its descendants."""
    table = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            table[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
    found, waiting = {}, [root]
    while waiting:
        one = waiting.pop()
        if one in table:
            found[one] = table[one]
            waiting += [other for other, fields in table.items() if int(fields[1]) == one]
    return found


if __name__ == "__main__":
    main()
