"""infra/slurm.sbatch between hosts of namespaces, with stand-ins for SLURM's programs."""

import shutil
import signal
import subprocess
import sys

import pytest
from commands import ROOT
from rehearsal.hosts import lan, missing
from rehearse import until

NODES = {"head": 10, "one": 11, "two": 12}
SEARCH = (
    *("--dataset", "numbers", "--study", "s", "--trials", "5", "--max-epochs", "300"),
    *("--patience", "300", "--executions", "2", "--set", "hidden_dim=32", "--scheduler", "none"),
    *("--cpus-per-trial", "1", "--workers", "3", "--fresh-draws", "0", "--no-final"),
)


class Job:
    """A job of SLURM on all hosts of a network: the batch script, as the first of them runs it."""

    def __init__(self, network, project, number, *arguments):
        self.network, self.number = network, number
        nodes = [host.address for host in network.hosts.values()]
        self.log = project / f"job-{number}.log"
        stand_ins = project / "slurm"
        self.process = network.hosts["head"].start(
            *("bash", "-c", 'exec bash "$@" > "$0" 2>&1', self.log, "infra/slurm.sbatch"),
            *arguments,
            environment={
                "PATH": f"{stand_ins}:/usr/sbin:/usr/bin:/sbin:/bin",
                "PYTHONPATH": str(project),
                "SLURM_JOB_ID": str(number),
                "SLURM_JOB_NODELIST": ",".join(nodes),
                "SLURM_JOB_NUM_NODES": str(len(nodes)),
                "SLURM_CPUS_PER_TASK": "1",
                "SLURM_SUBMIT_DIR": str(project),
            },
            folder=str(project),
        )

    def said(self):
        return self.log.read_text() if self.log.exists() else ""

    def terminate(self):
        """Tell the batch script that its time is over, as --signal=B:TERM does."""
        found = self.network.hosts["head"].processes()
        (script,) = [pid for pid, args in found.items() if args.startswith("bash infra/slurm")]
        self.network.hosts["head"].run("kill", f"-{signal.SIGTERM}", str(script))

    def ended(self):
        return self.process.wait(400)


def trains(host):
    return any("ray::ImplicitFunc.train" in args for args in host.processes().values())


def answers(host, server):
    return not host.run("curl", "-sf", "-m", "5", f"http://{server}/health", check=False).returncode


def left(host):
    """What a job should not leave on a host: processes and folders."""
    folders = host.bash("ls -d /tmp/mianet-* 2>/dev/null", check=False)
    return {pid: args for pid, args in host.processes().items() if "ssh" not in args}, folders


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project where all nodes see it."""
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("home")
    for name in ("mianet", "tuning", "infra"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copytree(ROOT / "tests/rehearsal/slurm", folder / "slurm")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.fixture(scope="module")
def network(project, tmp_path_factory):
    key = tmp_path_factory.mktemp("key") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    with lan(key.with_suffix(".pub").read_text().strip()) as made:
        for name, number in NODES.items():
            made.add(name, number, shared=project)
        script = 'umask 077; printf "%s\n" "$1" > /root/key'
        made.hosts["head"].run("bash", "-c", script, "-", key.read_text().strip())
        yield made


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_runs_in_an_allocation_stops_in_time_and_goes_on_in_the_next(network, project):
    job = Job(network, project, 1, *SEARCH)
    until(lambda: all(map(trains, network.hosts.values())), 240, job.said)
    assert "to view it: ssh -L" in job.said()
    port = 20000 + 2 * job.number + 1
    assert answers(network.hosts["head"], f"127.0.0.1:{port}")
    assert not answers(network.hosts["one"], f"{network.hosts['head'].address}:{port}")
    lines = [args for host in network.hosts.values() for args in host.processes().values()]
    assert not any("RAY_AUTH_TOKEN=" in args for args in lines if "ssh" not in args)
    job.terminate()
    assert job.ended() == 130, job.said()
    assert "to continue: python tuning/search.py --resume s" in job.said()
    for host in network.hosts.values():
        until(lambda host=host: left(host) == ({}, ""), 120, lambda host=host: left(host))

    again = Job(network, project, 2, "--resume", "s")
    assert again.ended() == 0, again.said()
    assert "5 trials in" in again.said()
    assert "5 finished" in again.said()
    assert (project / "mlflow.db").exists()
