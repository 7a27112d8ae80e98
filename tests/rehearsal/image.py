"""Run the steps of infra/Dockerfile without a container engine: python image.py COMMAND...

The root folder is this machine's system, whose changes are thrown away, with the Python of this
environment in /usr/local, where the base image has its own. What ``pip`` is asked for counts as
installed if this environment has it, ``apt-get`` only says what it was asked for, and there is no
network. Then the command runs as the image runs it. Needs root, and namespaces of its own (mounts,
network, processes).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DOCKERFILE = PROJECT / "infra/Dockerfile"
SYSTEM = ("bin", "lib", "lib64", "sbin")
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_CONSTRAINT": ""}
"""What keeps ``pip`` from the network; it reads the second as its opposite."""


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield the instructions of a Dockerfile: name, and what follows it on the joined lines."""
    lines = [line for line in text.splitlines() if not re.match(r"\s*#", line)]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name.upper(), rest.strip()


@dataclass
class Image:
    """An image that is being built in a folder.

    Attributes:
        root: Its root folder.
        arguments: Build argument → value.
        environment: What its processes find in their environment.
    """

    root: Path
    arguments: Mapping[str, str]
    environment: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin"}
    )
    _variables: dict[str, str] = field(default_factory=dict)
    _user: str = "0"
    _folder: str = "/"

    def build(self, text: str) -> None:
        """Carry out all instructions of a Dockerfile."""
        for name, rest in instructions(text):
            getattr(self, f"_do_{name.lower()}")(rest)

    def run(self, command: list[str], **more: str) -> int:
        """Run a command as its user, in its folder and environment; return the exit code."""
        chroot = ("chroot", f"--userspec={self._user}:{self._user}", str(self.root))
        return subprocess.run(
            [*chroot, "/usr/bin/env", f"--chdir={self._folder}", *command],
            env={**self._variables, **self.environment, **more},
            check=False,
        ).returncode

    def _do_from(self, base: str) -> None:
        assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base), base

    def _do_env(self, pairs: str) -> None:
        self.environment |= dict(pair.split("=", 1) for pair in shlex.split(pairs))

    def _do_arg(self, pair: str) -> None:
        name, _, default = pair.partition("=")
        self._variables[name] = self.arguments.get(name, default)

    def _do_workdir(self, folder: str) -> None:
        self._folder = folder
        self._inside(folder).mkdir(parents=True, exist_ok=True)

    def _do_user(self, user: str) -> None:
        self._user = user

    def _do_copy(self, paths: str) -> None:
        *sources, target = paths.split()
        for source in sources:
            to = self._inside(os.path.join(self._folder, target))
            if (PROJECT / source).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(PROJECT / source, to, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy(PROJECT / source, to)

    def _do_run(self, script: str) -> None:
        code = self.run(["/bin/sh", "-c", script], **OFFLINE)
        if code:
            sys.exit(f"RUN ended with {code}: {script}")

    def _do_cmd(self, command: str) -> None:
        self.command = command

    def _inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")


def make_root(root: Path) -> None:
    """Make a root folder like the base image's, on a file system that goes with the namespace."""
    mount("-t", "tmpfs", "tmpfs", str(root))
    for name in ("above", "work", "usr", "proc", "dev", "tmp", "var/lib/apt/lists", "home"):
        (root / name).mkdir(parents=True)
    layers = f"lowerdir=/usr,upperdir={root}/above,workdir={root}/work"
    mount("-t", "overlay", "overlay", "-o", layers, str(root / "usr"))
    mount("-t", "tmpfs", "tmpfs", str(root / "usr/local"))
    mount("-t", "proc", "proc", str(root / "proc"))
    mount("--rbind", "/dev", str(root / "dev"))
    mount("-t", "tmpfs", "tmpfs", str(root / "dev/shm"))
    (root / "tmp").chmod(0o1777)
    (root / "dev/shm").chmod(0o1777)
    shutil.copytree("/etc", root / "etc", symlinks=True)
    for name in ("passwd", "group"):  # the base image has the system's users alone
        users = [line.split(":") for line in (root / "etc" / name).read_text().splitlines()]
        kept = [":".join(user) for user in users if user[2] == "" or not 999 < int(user[2]) < 65534]
        (root / "etc" / name).write_text("\n".join(kept) + "\n")
    for name in SYSTEM:
        if os.path.islink(f"/{name}"):
            (root / name).symlink_to(f"usr/{name}")
    for path in {sys.prefix, sys.base_prefix} - {"/usr"}:
        (root / path.lstrip("/")).mkdir(parents=True)
        mount("--bind", path, str(root / path.lstrip("/")))


def add_python(root: Path) -> None:
    """Put Python and its packages into /usr/local, and an ``apt-get`` that needs no network."""
    base = os.path.realpath(sys.executable)
    chroot = ("chroot", str(root))
    subprocess.run([*chroot, base, "-m", "venv", "--without-pip", "/usr/local"], check=True)
    (packages,) = (root / "usr/local/lib").glob("python*/site-packages")
    (packages / "installed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for path, script in {
        "bin/pip": '#!/bin/sh\nexec python -m pip --quiet "$@"\n',
        "sbin/apt-get": '#!/bin/sh\necho "apt-get $*"\n',
    }.items():
        file = root / "usr/local" / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(script)
        file.chmod(0o755)


def mount(*arguments: str) -> None:
    """Mount a file system."""
    subprocess.run(["mount", *arguments], check=True)


def main() -> int:
    """Build the image, and run a command in it; return its exit code."""
    mount("--make-rprivate", "/")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    root = Path("/mnt")
    make_root(root)
    add_python(root)
    image = Image(root, {"TORCH": "cpu"})
    image.build(DOCKERFILE.read_text())
    return image.run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
