"""Searches whose parts are killed for real: nothing is lost, nothing is done or recorded twice."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import forks
import pytest
from commands import SMALL, fork, run
from processes import workers_of
from ray.cluster_utils import Cluster
from recorded import OPENED
from studies import check_whole, curves_of, events_of, recorded_trials, running_in

from tuning.events.log import open_log

pytestmark = pytest.mark.timeout(600)

SEARCH_ALONE = ("--dataset", "numbers", "--no-final", "--fresh-draws", "0")
ONE_BY_ONE = (*SEARCH_ALONE, "--workers", "1", "--cpus-per-trial", "1")
TINY = ("--set", "hidden_dim=32", "--executions", "1", "--max-epochs", "6", "--patience", "6")
OWN_RAY = {"RAY_ADDRESS": "local"}


@pytest.fixture(scope="module")
def cluster(one_ray):
    """A cluster that outlives its drivers."""
    return SimpleNamespace(address=one_ray)


def search(folder, *options, **variables):
    """Start a search in a folder; return its process. What it prints goes to ``output``."""
    folder.mkdir(exist_ok=True)
    return fork("search", *options, cwd=folder, **variables)


def told(folder):
    """Return all that the searches of a folder printed."""
    return (folder / "output").read_text()


def ended(process, seconds=400):
    """Wait for a search; return its exit code."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        pytest.fail("a search did not end")
    return process.exitcode


def wait_for(condition, process, seconds=300):
    """Wait until something holds or the process has ended."""
    deadline = time.monotonic() + seconds
    while not condition() and process.exitcode is None:
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.005)


def test_a_driver_killed_ten_times_leaves_the_study_of_an_undisturbed_one(cluster, tmp_path):
    chance = random.Random(20)
    options = (*ONE_BY_ONE, *TINY, "--trials", "16", "--seed", "1", "--study", "s")
    cold = {"RAY_ADDRESS": cluster.address}
    undisturbed = search(tmp_path / "a", *options, **cold)
    folder = tmp_path / "b"
    kills = 0
    while kills < 10:
        before = len(events_of(folder, "s"))
        again = ("--resume", "s") if before else options
        process = search(folder, *again, **cold)
        growth = chance.choice([0, 1, 2, 3, 5])
        wait_for(lambda: len(events_of(folder, "s")) > before + growth, process)  # noqa: B023
        time.sleep(chance.random() * 0.1)
        assert process.exitcode is None, told(folder)
        process.kill()
        process.join(30)
        kills += 1
    assert ended(search(folder, "--resume", "s", **cold)) == 0, told(folder)
    assert ended(undisturbed) == 0
    check_whole(tmp_path / "a", "s", 16)
    check_whole(folder, "s", 16)
    assert curves_of(folder, "s") == curves_of(tmp_path / "a", "s")
    repeated = sum(x["event"] == "opened" for x in events_of(folder, "s"))
    assert repeated >= 8
    assert not list((folder / "ray_results" / "s" / "checkpoints").iterdir())


def test_with_several_workers_a_killed_driver_loses_and_doubles_nothing(cluster, tmp_path):
    options = (*SEARCH_ALONE, *TINY, "--trials", "8", "--study", "s")
    where = {"RAY_ADDRESS": cluster.address}
    for growth in (3, 12, None):
        again = ("--resume", "s") if events_of(tmp_path, "s") else (*options, "--workers", "2")
        process = search(tmp_path, *again, **where)
        if growth is None:
            assert ended(process) == 0
            break
        before = len(events_of(tmp_path, "s"))
        wait_for(lambda: len(events_of(tmp_path, "s")) > before + growth, process)  # noqa: B023
        process.kill()
        process.join(30)
    check_whole(tmp_path, "s", 8)


def test_a_killed_worker_costs_an_epoch_and_not_the_trial(cluster, tmp_path):
    options = (*ONE_BY_ONE, *TINY[:-4], "--max-epochs", "60", "--patience", "60")
    process = search(
        tmp_path, *options, "--trials", "1", "--study", "s", RAY_ADDRESS=cluster.address
    )
    wait_for(lambda: len(events_of(tmp_path, "s")) > 6, process)
    os.kill(workers_of(os.getpid())[0], signal.SIGKILL)
    assert ended(process) == 0
    check_whole(tmp_path, "s", 1)
    assert curves_of(tmp_path, "s")[0][2] == ("finished", "")
    assert "resumes from its checkpoint, retry 1 of 2" in told(tmp_path)


def test_a_worker_killed_between_two_trials_costs_neither(cluster, tmp_path):
    """It dies while it is made ready for the next one, which Ray Tune takes for two deaths."""
    options = (*ONE_BY_ONE, *TINY[:-4], "--max-epochs", "1", "--scheduler", "none")
    process = search(
        tmp_path, *options, "--trials", "8", "--study", "s", RAY_ADDRESS=cluster.address
    )
    ends = lambda: sum(x["event"] == "ended" for x in events_of(tmp_path, "s"))  # noqa: E731
    for _ in range(3):
        before = ends()
        wait_for(lambda: ends() > before, process)  # noqa: B023
        for worker in workers_of(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
    assert ended(process) == 0, told(tmp_path)
    check_whole(tmp_path, "s", 8)
    assert {end for _, _, end in curves_of(tmp_path, "s").values()} == {("finished", "")}
    assert "retry 1 of 2" in told(tmp_path)


def test_a_worker_that_always_dies_fails_its_trial_and_says_why(cluster, tmp_path):
    process = search(
        tmp_path, *ONE_BY_ONE, *SMALL, "--trials", "1", "--study", "s", RAY_ADDRESS=cluster.address
    )
    over = threading.Event()
    killed = []

    def kill_all():
        while not over.wait(0.05):
            for worker in workers_of(os.getpid()):
                if worker not in killed:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker, signal.SIGKILL)
                        killed.append(worker)

    killer = threading.Thread(target=kill_all)
    killer.start()
    code = ended(process)
    over.set()
    killer.join(30)
    assert code == 1
    assert len(killed) >= 3
    status, reason = curves_of(tmp_path, "s")[0][2]
    assert status == "failed"
    assert "died" in reason
    assert "3 times" in reason
    check_whole(tmp_path, "s", 1)
    assert recorded_trials(tmp_path, "s")[0][1]["reason"] == reason


def test_a_worker_killed_for_want_of_memory_costs_an_epoch_and_not_the_trial(tmp_path):
    of = dict(line.split()[:2] for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(of[name]) / 1e6 for name in ("MemTotal:", "MemAvailable:"))
    if available < 10:
        pytest.skip(f"needs 10 GB of free memory, here are {available:.1f}")
    full = 1 - (available - 4) / total  # where Ray takes the node for full: 4 GB from now
    options = (*ONE_BY_ONE, *TINY[:-4], "--max-epochs", "900", "--patience", "900")
    process = search(
        tmp_path,
        *(*options, "--trials", "1", "--study", "s"),
        **OWN_RAY,
        **{forks.WORKERS: ""},  # a worker is found among the descendants of the search
        RAY_memory_usage_threshold=f"{full:.4f}",
        RAY_memory_monitor_refresh_ms="300",  # time for what follows to free it
    )
    wait_for(lambda: len(events_of(tmp_path, "s")) > 6, process)
    worker = workers_of(process.pid)[0]
    # Bit by bit, and past the mark if need be: what else runs here takes and frees memory as well.
    bits = "import time; x = [(b'1' * 250_000_000, time.sleep(0.02)) for _ in range(32)]; input()"
    hog = subprocess.Popen([sys.executable, "-c", bits], stdin=-1)
    try:
        wait_for(lambda: worker not in workers_of(process.pid), process, seconds=60)
    finally:
        hog.kill()
        hog.communicate(timeout=30)
    assert ended(process) == 0, told(tmp_path)
    check_whole(tmp_path, "s", 1)
    assert curves_of(tmp_path, "s")[0][2] == ("finished", "")
    assert "resumes from its checkpoint, retry 1 of 2" in told(tmp_path)
    assert "memory" in told(tmp_path)


def test_an_error_of_the_code_is_not_tried_again(cluster, tmp_path):
    options = (*ONE_BY_ONE, *SMALL[2:], "--set", "hidden_dim=1000000000000")
    options += ("--trials", "1", "--study", "s")
    process = search(tmp_path, *options, RAY_ADDRESS=cluster.address)
    assert ended(process) == 1
    status, reason = curves_of(tmp_path, "s")[0][2]
    assert status == "failed"
    assert "RuntimeError" in reason
    assert "allocate" in reason
    assert "retry" not in told(tmp_path)
    check_whole(tmp_path, "s", 1)


def test_a_lost_node_costs_its_trials_an_epoch(tmp_path):
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        options = (*TINY[:-4], "--max-epochs", "40", "--patience", "40", "--scheduler", "none")
        process = search(
            tmp_path,
            *(*SEARCH_ALONE, "--study", "s", "--trials", "2"),
            *("--workers", "2", *options),
            RAY_ADDRESS=cluster.address,
        )
        both = lambda: {x.get("number") for x in events_of(tmp_path, "s") if "epoch" in x} >= {0, 1}  # noqa: E731
        wait_for(both, process)
        cluster.remove_node(node, allow_graceful=False)
        assert ended(process, 300) == 0, told(tmp_path)
        check_whole(tmp_path, "s", 2)
        assert {end for _, _, end in curves_of(tmp_path, "s").values()} == {("finished", "")}
        assert "resumes from its checkpoint" in told(tmp_path)
    finally:
        cluster.shutdown()


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT] * 2])
def test_an_interrupted_search_says_how_to_go_on_and_does(cluster, tmp_path, signals):
    options = (*TINY[:-4], "--max-epochs", "80", "--patience", "80", "--scheduler", "none")
    process = search(tmp_path, *ONE_BY_ONE, *options, "--trials", "1", "--study", "s")
    wait_for(lambda: len(events_of(tmp_path, "s")) >= 4, process, seconds=120)
    for number in signals:
        os.kill(process.pid, number)
        time.sleep(0.1)
    signalled = time.monotonic()
    assert ended(process, 90) == 130, told(tmp_path)
    assert time.monotonic() - signalled < (5 if len(signals) == 2 else 45)
    assert "Traceback" not in told(tmp_path)
    assert "to continue: python tuning/search.py --resume s\n" in told(tmp_path)
    if len(signals) == 1:
        assert running_in(tmp_path) == 0
    before = curves_of(tmp_path, "s")[0]
    assert before[2] is None
    again = run("search", "--resume", "s", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    check_whole(tmp_path, "s", 1)
    after = curves_of(tmp_path, "s")[0]
    assert after[1][: len(before[1])] == before[1]
    assert len(after[1]) == 80


def test_a_second_signal_that_finds_the_search_over_ends_the_process_as_well():
    script = (
        "import os, signal\n"
        "from tuning.engine import interrupts\n"
        "with interrupts.watching('COMMAND') as interrupt:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "assert interrupt.requested\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr.endswith("stopped immediately; to continue: COMMAND\n")


def test_a_second_driver_of_a_study_is_refused(tmp_path):
    with open_log(tmp_path / "ray_results" / "s") as log:
        log.begin(OPENED)
        second = run("search", "--resume", "s", cwd=tmp_path)
    assert second.returncode == 2
    assert second.stderr.startswith("error: a study must be searched by one process at a time")
    assert f"is being searched by process {os.getpid()} on" in second.stderr
    assert second.stdout == ""


def test_searches_at_once_on_one_machine_all_finish(tmp_path):
    """Two of the same data set and one of another, all begun at once, in one SQLite file."""
    shared = ("--workers", "1", "--cpus-per-trial", "1", *SEARCH_ALONE[2:], *TINY, "--trials", "2")
    datasets = {"one": "numbers", "two": "numbers", "other": "synthetic:apy"}
    all_of_them = {
        name: search(tmp_path, "--dataset", dataset, *shared, "--study", name, **OWN_RAY)
        for name, dataset in datasets.items()
    }
    codes = [ended(process) for process in all_of_them.values()]
    assert codes == [0, 0, 0], told(tmp_path)
    for name in datasets:
        check_whole(tmp_path, name, 2)
