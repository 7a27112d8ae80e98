"""A soak: short trials by the hundred while worker, driver and tracking server are killed.

    python tests/soak.py --trials 500 --folder /tmp/soak

A search is started, and whenever its log has grown by a random number of lines one of the three
gets SIGKILL, in turn (a driver that has no worker yet dies in its place); a killed driver is
resumed, a killed server started again after a few seconds. At the end every trial must be in
the log and in MLflow once, and the driver's memory and open files must not have grown with the
number of trials. Prints the counts; exits with 1 where one is wrong.
"""

import argparse
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from commands import environment, start
from processes import workers_of
from studies import check_whole, events_of

TINY = ("--set", "hidden_dim=16", "--executions", "1", "--max-epochs", "3", "--scheduler", "none")
KINDS = ("worker", "driver", "server")
WARM_UP_LINES = 50
"""Lines of the log after which a driver's memory should be what it stays."""
DEADLINE_SECONDS = 300
"""The longest that nothing may happen."""


class Server:
    """A real MLflow server that can be killed and comes back on the same port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            self.port = reserved.getsockname()[1]
        self.folder = folder
        self.uri = f"http://127.0.0.1:{self.port}"
        self.back_at = 0.0
        self.process = self._start()

    def _start(self) -> subprocess.Popen:
        command = ("server", "--workers", "1", "--host", "127.0.0.1", "--port", str(self.port))
        command += ("--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}")
        return subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command],
            cwd=self.folder,
            env=environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill(self, seconds: float) -> None:
        """Kill it with its children; it is started again after some seconds."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        self.back_at = time.monotonic() + seconds

    def tend(self) -> None:
        """Start it again when its time has come."""
        if self.process.poll() is not None and time.monotonic() >= self.back_at:
            self.process = self._start()

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            self.tend()
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            time.sleep(0.2)
        raise TimeoutError("the tracking server does not come up")


def memory_and_files(pid: int) -> tuple[float, int]:
    """Return a process's resident memory in MB and its open files."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir(f"/proc/{pid}/fd"))


def begin(folder: Path, server: Server, trials: int) -> subprocess.Popen:
    """Start the search, or go on with it."""
    server.wait()
    options = ("--resume", "soak")
    if not events_of(folder, "soak"):
        options = ("--dataset", "numbers", "--study", "soak", "--trials", str(trials))
        options += (*TINY, "--no-final", "--fresh-draws", "0", "--tracking-uri", server.uri)
    return start("search", *options, cwd=folder, output=folder / "output", RAY_ADDRESS="local")


def soak(folder: Path, trials: int, kills: int, seed: int) -> int:
    """Run the study to its end with kills on the way; print what happened."""
    chance, done, samples = random.Random(seed), Counter(), []
    server = Server(folder)
    process = begin(folder, server, trials)
    spacing = max(1, trials * 5 // (kills + 1))
    due = spacing // 2
    last_growth, lines = time.monotonic(), 0
    try:
        while True:
            server.tend()
            grown = len(events_of(folder, "soak"))
            if grown > lines:
                lines, last_growth = grown, time.monotonic()
            assert time.monotonic() - last_growth < DEADLINE_SECONDS * 3, "nothing happens"
            if process.poll() is not None:
                if process.returncode == 0:
                    break
                # 2: it found no server when it started, because that had just been killed.
                assert process.returncode in (-signal.SIGKILL, 2), process.returncode
                process = begin(folder, server, trials)
            if lines >= due and sum(done.values()) < kills:
                due = lines + chance.randrange(1, 2 * spacing)
                kind = KINDS[sum(done.values()) % len(KINDS)]
                done[_kill(kind, chance, process, server)] += 1
            with contextlib.suppress(OSError, IndexError):
                samples.append((process.pid, lines, *memory_and_files(process.pid)))
            time.sleep(0.2)
        check_whole(folder, "soak", trials)
    finally:
        server.kill(0)
        if process.poll() is None:
            process.kill()
    return _report(folder, done, samples)


def _kill(kind: str, chance: random.Random, process: subprocess.Popen, server: Server) -> str:
    if kind == "server":
        server.kill(chance.uniform(0, 5))
        return kind
    workers = workers_of(process.pid)
    victim = chance.choice(workers) if kind == "worker" and workers else process.pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    if victim == process.pid:
        process.wait(30)
        return "driver"
    return kind


def _report(folder: Path, done: Counter, samples: list) -> int:
    ends = Counter(x["status"] for x in events_of(folder, "soak") if x["event"] == "ended")
    print(f"killed: {dict(done)}; trials: {dict(ends)}; none missing, none twice, none running")
    longest = Counter(pid for pid, *_ in samples).most_common(1)[0][0]
    mine = [sample[1:] for sample in samples if sample[0] == longest]
    mine = [sample for sample in mine if sample[0] > mine[0][0] + WARM_UP_LINES]
    if not mine:
        print("no driver lived long enough to say how its memory grows")
        return 0
    settled, last = mine[0], mine[-1]
    for name, place, unit in (("memory", 1, "MB"), ("open files", 2, "")):
        print(
            f"the driver that lived longest, from line {settled[0]} to {last[0]} of the log: "
            f"{name} {settled[place]:.0f} to {last[place]:.0f} {unit}"
        )
    lost = ends["failed"]
    print(f"trials lost to three deaths of their worker: {lost}")
    grown = last[1] > settled[1] * 1.5 + 50 or last[2] > settled[2] + 30
    return int(grown or lost > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    sys.exit(soak(given.folder.absolute(), given.trials, given.kills, given.seed))
