"""Hosts on one machine that share nothing but a network: namespaces, as containers have them.

A host has its own address, processes, host name, home, ``/tmp``, ``/run``, ``/dev/shm`` and
PostgreSQL, and an SSH server that is the only way in. It sees the system's programs and one Python
environment, as machines that were made from one image do. That takes root.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SUBNET = ipaddress.ip_network("10.77.0.0/24")
PROGRAMS = {
    "ip": "iproute2",
    "unshare": "util-linux",
    "ssh": "openssh-client",
    "/usr/sbin/sshd": "openssh-server",
    "rsync": "rsync",
    "curl": "curl",
    "pg_createcluster": "postgresql",
}


def missing() -> str:
    """Say why hosts cannot be made here; empty if they can."""
    packages = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if packages:
        return f"programs are missing: apt-get install {' '.join(packages)}"
    return missing_namespaces()


def missing_namespaces() -> str:
    """Say why there are no namespaces here; empty if there are."""
    if os.geteuid() != 0:
        return "namespaces need root"
    if subprocess.run(
        ["unshare", "--net", "--pid", "--mount", "--fork", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        check=False,
    ).returncode:
        return "this machine's kernel or container does not allow namespaces"
    return ""


@dataclass
class Host:
    """A host that runs, or ran.

    Attributes:
        name: Its host name.
        address: Its address.
        process: Its first process, as seen from outside; with it, all of the host goes.
    """

    name: str
    address: str
    space: str
    lan: str
    process: subprocess.Popen[bytes]

    def run(
        self,
        *command: str,
        timeout: float = 60,
        check: bool = True,
        environment: Mapping[str, str] | None = None,
        folder: str = "/root",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host, as somebody who sits before it."""
        process = self.start(*command, environment=environment, folder=folder)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(
                f"{self.name}: {command} ran past {timeout} s: {out}{err}"
            ) from None
        if check and process.returncode:
            raise AssertionError(
                f"{self.name}: {command} ended with {process.returncode}: {out}{err}"
            )
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(
        self, *command: str, environment: Mapping[str, str] | None = None, folder: str = "/root"
    ) -> subprocess.Popen[str]:
        """Start a command on the host; its output goes to pipes."""
        plain = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        return subprocess.Popen(
            [
                *("nsenter", f"--target={self.first_pid}", "--net", "--pid", "--mount", "--uts"),
                *("--ipc", f"--wdns={folder}", "--", *command),
            ],
            env={**plain, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def bash(self, script: str, *, timeout: float = 60, check: bool = True) -> str:
        """Run a script on the host in a shell as SSH gives it; return what it prints."""
        return self.run(
            "bash", "-c", f". ~/.bashrc; {script}", timeout=timeout, check=check,
            environment={"PYTHONPATH": "/root/mianet"},
        ).stdout  # fmt: skip

    @property
    def first_pid(self) -> int:
        """Return the process id, from outside, of what is process 1 inside."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0])

    def processes(self) -> dict[int, str]:
        """Return process id on the host → command line of all that runs there, but for itself."""
        lines = self.run("ps", "-eo", "pid=,args=").stdout.splitlines()
        found = dict(line.strip().split(maxsplit=1) for line in lines)
        own = ("ps -eo", "bash " + str(PROJECT), "sleep 1", "/usr/sbin/sshd -D", "sshd: /usr/sbin")
        return {int(pid): args for pid, args in found.items() if not args.startswith(own)}

    def unplug(self) -> None:
        """Take its cable out: packets are lost, nobody is told."""
        _ip("-n", self.space, "link", "set", "eth0", "down")

    def kill(self) -> None:
        """End every process of it at once, as a loss of power does; its files go as well."""
        self.process.kill()
        self.process.wait(30)
        _ip("-n", self.lan, "link", "delete", self.name)
        _ip("netns", "delete", self.space)


@dataclass
class Lan:
    """A network and the hosts in it.

    Attributes:
        hosts: Name → host.
    """

    space: str
    key: str
    hosts: dict[str, Host] = field(default_factory=dict)

    def add(
        self,
        name: str,
        number: int,
        *,
        visible: Sequence[Path] = (),
        shared: Path | None = None,
        ssh: bool = True,
    ) -> Host:
        """Start a host; a name that was killed comes back as a new machine at the old address.

        Args:
            name: Its host name.
            number: The last part of its address.
            visible: Folders of this machine that it sees, beside the Python environment.
            shared: A folder that all who have it may write to, as a cluster's file server has it.
            ssh: Whether it has an SSH server, and the project's packages installed.
        """
        space, address = f"{self.space}-{name}", str(SUBNET[number])
        _ip("netns", "add", space)
        _ip("-n", self.space, "link", "add", name, "type", "veth", "peer", "eth0", "netns", space)
        _ip("-n", self.space, "link", "set", name, "master", "bridge", "up")
        _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", space, "address", "add", f"{address}/{SUBNET.prefixlen}", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")
        _ip("-n", space, "route", "add", "default", "via", str(SUBNET[1]))
        seen = dict.fromkeys(map(str, (sys.prefix, *visible, sys.base_prefix)))
        seen.pop("/usr", None)
        process = subprocess.Popen(
            [
                *(
                    "setpriv",
                    "--pdeathsig",
                    "KILL",
                ),  # hosts end with the rehearsal, however it ends
                *("ip", "netns", "exec", space, "unshare", "--pid", "--fork", "--kill-child"),
                *("--mount-proc", "--mount", "--uts", "--ipc", "bash"),
                *(str(PROJECT / "tests/rehearsal/host.sh"), name, str(PROJECT)),
                *(self.key if ssh else "", str(shared or ""), *seen),
            ],
            stdin=subprocess.DEVNULL,
        )
        host = self.hosts[name] = Host(name, address, space, self.space, process)
        _wait_until_up(host, ssh=ssh)
        return host


@contextmanager
def lan(key: str) -> Iterator[Lan]:
    """Make a network without hosts; whatever happens, nothing of it is left at the end.

    Args:
        key: The SSH key that may enter every host, as ``authorized_keys`` has it.
    """
    space = f"rehearsal-{os.getpid()}"
    _ip("netns", "add", space)
    network = Lan(space, key)
    try:
        _ip("-n", space, "link", "add", "bridge", "type", "bridge")
        _ip("-n", space, "address", "add", f"{SUBNET[1]}/{SUBNET.prefixlen}", "dev", "bridge")
        _ip("-n", space, "link", "set", "bridge", "up")
        yield network
    finally:
        for host in network.hosts.values():
            if host.process.poll() is None:
                host.kill()
        _ip("netns", "delete", space)


def _wait_until_up(host: Host, *, ssh: bool) -> None:
    ready = ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/22"] if ssh else ["test", "-s", "/run/hosts"]
    for _ in range(100):
        if host.process.poll() is not None:
            break
        try:
            if host.run(*ready, check=False, folder="/").returncode == 0:
                return
        except (OSError, IndexError):
            pass  # its first process is still being made
        time.sleep(0.1)
    raise AssertionError(f"the host {host.name} did not start")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
