"""Rehearse the life of a cluster on this machine: hosts that share nothing but a network.

    sudo .venv/bin/python tests/rehearse.py

makes a laptop, a head and two workers of namespaces, and does on the laptop what docs/cluster.md
says: the real `ray up` with infra/on_premises.yaml, a search through the job API, a worker that is
lost and replaced in the middle, going on, the model from another host, and the end. What is not as
promised ends it with an error. It takes five to eight minutes on two cores; nothing of it stays.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from rehearsal.hosts import PROJECT, Host, Lan, lan, missing

BIN = Path(sys.prefix) / "bin"
CLUSTER_FILE = "/root/cluster.yaml"
DASHBOARD, TRACKING = "http://127.0.0.1:8265", "http://127.0.0.1:5000"
LAPTOP = {
    "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin",
    "RAY_AUTH_MODE": "token",
    "RAY_API_SERVER_ADDRESS": DASHBOARD,
}
NUMBERS = {"laptop": 2, "head": 10, "one": 11, "two": 12, "cloud": 20}
HEAD, ONE, TWO = (f"10.77.0.{NUMBERS[name]}" for name in ("head", "one", "two"))
SMALL_STORE = "--object-store-memory=80000000"
SEARCH = (
    "python tuning/search.py --dataset numbers --study rehearsal --trials 6 --workers 2"
    " --max-epochs 60 --patience 60 --executions 3 --set hidden_dim=256 --scheduler none"
    " --sampler random --cpus-per-trial 1 --fresh-draws 0 --no-final"
)


def script_text(name: str) -> str:
    """Return a script of the rehearsal, quoted: the hosts have the product's files only."""
    return shlex.quote((PROJECT / "tests/rehearsal" / name).read_text())


class Rehearsal:
    """The hosts, and what is done on them, in order.

    Args:
        network: Where the hosts are.
        key: File with the private SSH key that they admit.
    """

    def __init__(self, network: Lan, key: Path) -> None:
        self.network = network
        self.laptop = network.add("laptop", NUMBERS["laptop"], visible=[PROJECT], ssh=False)
        for name in ("head", "one", "two"):
            network.add(name, NUMBERS[name])
        self.untried = everyday_commands()
        self.beside = ThreadPoolExecutor(1)
        self.put("/root/key", key.read_text())
        self.put(CLUSTER_FILE, yaml.safe_dump(cluster_of_hosts()))

    @property
    def head(self) -> Host:
        """Return the head."""
        return self.network.hosts["head"]

    def put(self, path: str, text: str) -> None:
        """Write a file of the laptop, for its owner alone."""
        self.laptop.run("bash", "-c", 'umask 077; printf %s "$1" > "$2"', "-", text, path)

    def on_laptop(self, *command: str, timeout: float = 120, check: bool = True) -> str:
        """Run a command as the user does, in the project's folder; return what it prints."""
        done = self.laptop.run(
            *command, timeout=timeout, check=check, environment=LAPTOP, folder=str(PROJECT)
        )
        return done.stdout + done.stderr

    def documented(self, command: str, *changes: tuple[str, str]) -> str:
        """Return a command of docs/cluster.md as it is run here; it must be there as it is given.

        Args:
            command: How its line begins; one line does.
            changes: What is replaced, beside the cluster's file and the study's name.
        """
        (line,) = [line for line in everyday_commands() if line.startswith(command)]
        self.untried.discard(line)
        for old, new in (*changes, ("FILE", CLUSTER_FILE), ("apy", "rehearsal")):
            line = line.replace(old, new)
        return line

    def does(self, command: str, *changes: tuple[str, str], timeout: float = 120) -> str:
        """Run a documented command on the laptop; return what it prints."""
        return self.on_laptop("bash", "-c", self.documented(command, *changes), timeout=timeout)

    def up(self) -> None:
        """The laptop makes a token and a cluster."""
        self.does("bash infra/token.sh")
        self.does("ray up FILE", ("ray up", "ray up -y"), timeout=400)

    def workers_join(self) -> None:
        """The head sets up both workers; all nodes have the same software."""
        self.does("ray exec FILE 'cd mianet && python infra/check.py", timeout=600)

    def tunnel_opens(self) -> None:
        """A tunnel brings the dashboard, the job API and MLflow to the laptop."""
        (variables,) = [line for line in everyday_commands() if line.startswith("export ")]
        self.untried.discard(variables)
        given = dict(word.split("=", 1) for word in variables.split()[1:])
        assert given.items() <= LAPTOP.items(), given
        self.tunnel = self.laptop.start(
            *("bash", "-c", "exec " + self.documented("ray exec FILE -p").removesuffix("&")),
            environment=LAPTOP,
            folder=str(PROJECT),
        )
        until(lambda: self.asked(f"{DASHBOARD}/api/version", token=True) == "200", 30)
        assert self.asked(f"{TRACKING}/health") == "200"

    def strangers_are_refused(self) -> None:
        """Nobody gets in without the token, by driver, client, dashboard or job API."""
        for path in ("/api/version", "/api/jobs/", "/nodes?view=summary"):
            assert self.asked(DASHBOARD + path) == "401", path
        worker = self.network.hosts["two"]
        said = worker.bash(f"RAY_AUTH_MODE=disabled python -c {script_text('intrude.py')} {HEAD}")
        assert dict(line.split() for line in said.splitlines()) == {
            "driver": "UNAUTHENTICATED",
            "client": "UNAUTHENTICATED",
            "agent": "401",
            "dashboard": "ConnectionRefusedError",
            "database": "ConnectionRefusedError",
        }, said
        for host in (self.laptop, self.head, worker):
            assert host.run("stat", "-c", "%a", "/root/.ray/auth_token").stdout == "600\n"

    def search_begins(self) -> None:
        """A search is submitted through the job API; trials run on both workers."""
        search = "python tuning/search.py --dataset apy --study apy"
        self.does("ray job submit --no-wait --submission-id", (search, SEARCH))
        until(lambda: self.goes_on() and all(map(self.trains, ("one", "two"))), 120)
        until(lambda: self.goes_on() and self.ended(), 120)

    def data_is_there_once(self) -> None:
        """Each worker's object store holds the data once, whatever it trains."""
        size = 480 * 128 * 4  # the search's part of numbers
        said = self.head.bash(f"python -c {script_text('stores.py')}")
        used = json.loads(said.splitlines()[-1])
        assert all(size <= used[address] < 2 * size for address in (ONE, TWO)), used

    def laptop_is_closed(self) -> None:
        """The laptop goes and comes back; the search has not noticed."""
        self.close_tunnel()
        self.tunnel_opens()
        said = self.does("ray job status apy")
        assert "RUNNING" in said, said

    def up_again(self) -> None:
        """A second `ray up` changes nothing."""
        before = self.services()
        self.does("ray up FILE", ("ray up", "ray up -y"), timeout=300)
        assert self.services() == before

    def worker_is_lost(self) -> None:
        """A worker is cut off in the middle of a trial, then loses power."""
        until(lambda: self.goes_on() and self.trains("one"), 60)  # not between two trials
        self.network.hosts["one"].unplug()
        time.sleep(5)
        self.network.hosts.pop("one").kill()

    def no_trial_is_lost(self) -> None:
        """The search goes on without it, and ends with all its trials."""
        until(lambda: not self.goes_on(), 400)
        assert "6 trials in" in self.log(), self.log()
        assert "6 finished" in self.log(), self.log()

    def worker_is_replaced(self) -> None:
        """A new machine at the old address is set up by the head and joins."""
        self.network.add("one", NUMBERS["one"])
        self.does("ray exec FILE 'cd mianet && python infra/check.py", timeout=600)

    def search_goes_on(self) -> None:
        """The study goes on with more trials, on the new worker too; it is stopped."""
        more = "--submission-id more -- python tuning/search.py --resume apy --trials 12"
        resume = ("-- python tuning/search.py --resume apy", more)
        self.does("ray job submit --no-wait -- python tuning/search.py --resume", resume)
        until(lambda: self.trains("one"), 90, lambda: self.log("more"))
        self.does("ray job stop apy", ("apy", "more"))
        until(lambda: self.job_status("more") == "STOPPED", 60, lambda: self.log("more"))
        assert self.ended() < 12

    def search_ends(self) -> None:
        """It goes on once more, is followed, and ends with all its trials."""
        rest = "--submission-id rest -- python tuning/search.py --resume apy"
        resume = ("-- python tuning/search.py --resume apy", rest)
        self.does("ray job submit --no-wait -- python tuning/search.py --resume", resume)
        said = self.does("ray job logs --follow apy", ("apy", "rest"), timeout=240)
        assert self.job_status("rest") == "SUCCEEDED", said
        assert self.ended() == 12

    def best_is_trained(self) -> None:
        """The final training runs on the workers, and registers its model."""
        entry = "python tuning/final.py --dataset numbers --study rehearsal --seeds 2"
        said = self.on_laptop("ray", "job", "submit", "--", *entry.split(), timeout=240)
        assert "registered mianet-numbers version 1 as champion" in said, said

    def all_is_recorded(self) -> None:
        """Every trial is recorded once, nested in its study, by the tracking server."""
        script = str(PROJECT / "tests/rehearsal/recorded.py")
        runs = json.loads(self.on_laptop("python", script, TRACKING))
        (study,) = [run for run in runs if run["kind"] == "study"]
        trials = [run for run in runs if run["kind"] == "trial"]
        assert sorted(int(trial["number"]) for trial in trials) == list(range(12)), trials
        assert {trial["mlflow.parentRunId"] for trial in trials} == {study["id"]}
        assert {run["ended"] for run in runs} == {"FINISHED"}, runs
        assert {trial["status"] for trial in trials} == {"finished"}, trials

    def model_is_everywhere(self) -> None:
        """The registered model predicts on a worker, and is fetched to the laptop."""
        worker = self.network.hosts["two"]
        worker.bash(
            "cd mianet && python -c 'from sklearn.datasets import load_digits as d; import numpy;"
            ' numpy.save("/root/five.npy", d().data[:10].astype("float32").reshape(5, -1))\' &&'
            f" MLFLOW_TRACKING_URI=http://{HEAD}:5000 python tuning/predict.py"
            " --model models:/mianet-numbers@champion /root/five.npy /root/answers.csv",
            timeout=120,
        )
        assert len(worker.run("cat", "/root/answers.csv").stdout.splitlines()) == 6
        self.does("MLFLOW_TRACKING_URI=", ("-apy@", "-numbers@"), ("-d best", "-d /root/best"))
        assert self.laptop.run("test", "-f", "/root/best/MLmodel").returncode == 0

    def down(self) -> None:
        """The cluster is taken down; no process and no open port is left on any host."""
        self.close_tunnel()
        self.does("bash infra/down.sh FILE", timeout=180)
        assert not self.untried, f"docs/cluster.md says what was not tried: {self.untried}"
        for name in ("head", "one", "two"):
            host = self.network.hosts[name]
            until(lambda host=host: not host.processes(), 30, lambda host=host: host.processes())
            listening = host.run("ss", "-ltnH").stdout.splitlines()
            assert all(":22 " in line for line in listening), listening

    def queue_fills(self) -> None:
        """Beside all that, trials begin to wait for GPUs in a cloud that is none."""
        self.network.add("cloud", NUMBERS["cloud"], visible=[PROJECT], ssh=False)
        self.autoscaled = self.beside.submit(self.autoscale)

    def autoscale(self) -> subprocess.CompletedProcess[str]:
        """Have trials wait for GPUs on a host of their own, with Ray's fake provider."""
        host, path = self.network.hosts["cloud"], "/root/fake.yaml"
        host.run("bash", "-c", 'printf %s "$1" > "$2"', "-", yaml.safe_dump(fake_cloud()), path)
        return host.run(
            *("python", str(PROJECT / "tests/rehearsal/autoscale.py"), path),
            environment={
                "PATH": LAPTOP["PATH"],
                "RAY_AUTH_MODE": "disabled",
                "PYTHONPATH": str(PROJECT),
            },
            timeout=400,
        )

    def queue_started_gpu_nodes(self) -> None:
        """Those trials started the workers of ray_cluster.yaml up to the limit; idle ones went."""
        done = self.autoscaled.result(400)
        said = json.loads(done.stdout.splitlines()[-1])
        wanted = {"at_once": 2, "gpus": 1, "cpus": 4, "done": 6, "most": 2, "left": 0}
        assert said == wanted, done.stdout + done.stderr

    def close_tunnel(self) -> None:
        """End all connections of the laptop; its process ids are its own."""
        self.tunnel.kill()
        self.laptop.run("pkill", "-x", "ssh", check=False)

    def asked(self, url: str, *, token: bool = False) -> str:
        """Return the status of an HTTP request from the laptop."""
        bearer = '-H "Authorization: Bearer $(cat ~/.ray/auth_token)"' if token else ""
        script = f"curl -s -m 10 -o /dev/null -w '%{{http_code}}' {bearer} '{url}'"
        return self.laptop.run("bash", "-c", script, check=False).stdout

    def trains(self, name: str) -> bool:
        """Tell whether a trial runs on a host."""
        running = self.network.hosts[name].processes().values()
        return any(args.startswith("ray::ImplicitFunc.train") for args in running)

    def ended(self) -> int:
        """Return how many trials have ended for good."""
        log = self.head.bash("cat mianet/ray_results/rehearsal/events.jsonl")
        return sum(json.loads(line)["event"] == "ended" for line in log.splitlines())

    def goes_on(self) -> bool:
        """Tell whether the search still runs, or has ended well."""
        status = self.job_status()
        assert status in ("PENDING", "RUNNING", "SUCCEEDED"), self.log()
        return status != "SUCCEEDED"

    def log(self, job: str = "rehearsal") -> str:
        """Return what a search has printed."""
        return self.does("ray job logs apy", ("apy", job))

    def job_status(self, job: str = "rehearsal") -> str:
        """Return what the job API says of a search."""
        script = (
            'curl -s -H "Authorization: Bearer $(cat ~/.ray/auth_token)"'
            f" {DASHBOARD}/api/jobs/{job}"
        )
        return str(json.loads(self.laptop.run("bash", "-c", script).stdout)["status"])

    def services(self) -> dict[str, list[int]]:
        """Return host → the processes that a cluster consists of."""
        names = ("gcs_server", "raylet", "gunicorn", "postgres -D", "monitor.py")
        return {
            name: [
                pid
                for pid, args in host.processes().items()
                if any(service in args for service in names) and "postgres: " not in args
            ]
            for name, host in self.network.hosts.items()
            if name != "cloud"  # another cluster's, which has just begun
        }


def until(
    condition: Callable[[], object], seconds: float, state: Callable[[], object] = str
) -> None:
    """Wait for a condition; where it does not come, say how things stand."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {state()}"
        time.sleep(0.5)


def everyday_commands() -> set[str]:
    """Return the commands that docs/cluster.md gives for everyday use, without their comments."""
    text = (PROJECT / "docs/cluster.md").read_text()
    section = text.split("## Everyday use")[1].split("\n## ")[0]
    blocks = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    lines = [re.sub(r" +#.*", "", line) for block in blocks for line in block.splitlines()]
    return {*lines, *re.findall(r"`(ray job [^`]+)`", section)}


def cluster_of_hosts() -> dict[str, Any]:
    """Return infra/on_premises.yaml with its EDITs made, and small object stores."""
    text = (PROJECT / "infra/on_premises.yaml").read_text()
    text = text.replace("ray start --head", f"ray start --head {SMALL_STORE}")
    text = text.replace("ray start --address", f"ray start --num-cpus=1 {SMALL_STORE} --address")
    text = text.replace("/EDIT/xlsa17/data", "/srv numbers")
    cluster: dict[str, Any] = yaml.safe_load(text)
    cluster["provider"] |= {"head_ip": HEAD, "worker_ips": [ONE, TWO]}
    cluster["auth"] = {"ssh_user": "root", "ssh_private_key": "/root/key"}
    return cluster


def fake_cloud() -> dict[str, Any]:
    """Return ray_cluster.yaml for two workers at most, with Ray's fake provider, and impatient."""
    cluster: dict[str, Any] = yaml.safe_load((PROJECT / "ray_cluster.yaml").read_text())
    types = cluster["available_node_types"]
    for kind in types.values():
        kind["node_config"] = {}
    types["gpu"]["max_workers"] = 2
    types["gpu"]["resources"]["object_store_memory"] = 80_000_000
    provider = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
    lists = ("setup_commands", "initialization_commands", "cluster_synced_files", "rsync_exclude")
    for node in ("head", "worker"):
        lists += (f"{node}_setup_commands", f"{node}_start_ray_commands")
    return {
        **{name: [] for name in (*lists, "rsync_filter")},
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        "cluster_name": cluster["cluster_name"],
        "max_workers": 2,
        "idle_timeout_minutes": 0.05,
        "upscaling_speed": cluster["upscaling_speed"],
        "head_node_type": "ray.head.default",  # the fake provider knows it by this name
        "available_node_types": {"ray.head.default": types["head"], "gpu": types["gpu"]},
        "provider": {
            "type": "external",
            "module": provider,
            "head_node_id": "f" * 51 + "00000",
            "launch_multiple": True,
            "disable_node_updaters": True,
        },
    }


def main() -> int:
    """Do all steps; return the exit code."""
    if reason := missing():
        print(f"error: the rehearsal cannot run here: {reason}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        with lan(key.with_suffix(".pub").read_text().strip()) as network:
            rehearsal = Rehearsal(network, key)
            for step in STEPS:
                begun = time.monotonic()
                step(rehearsal)
                what = (step.__doc__ or step.__name__).splitlines()[0]
                print(f"{time.monotonic() - begun:5.0f} s  {what}", flush=True)
    return 0


STEPS: tuple[Callable[[Rehearsal], None], ...] = (
    Rehearsal.up,
    Rehearsal.workers_join,
    Rehearsal.tunnel_opens,
    Rehearsal.search_begins,
    Rehearsal.data_is_there_once,
    Rehearsal.worker_is_lost,
    Rehearsal.queue_fills,
    Rehearsal.strangers_are_refused,
    Rehearsal.laptop_is_closed,
    Rehearsal.up_again,
    Rehearsal.no_trial_is_lost,
    Rehearsal.worker_is_replaced,
    Rehearsal.search_goes_on,
    Rehearsal.search_ends,
    Rehearsal.best_is_trained,
    Rehearsal.all_is_recorded,
    Rehearsal.model_is_everywhere,
    Rehearsal.down,
    Rehearsal.queue_started_gpu_nodes,
)

if __name__ == "__main__":
    sys.exit(main())
