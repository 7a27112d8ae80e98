"""Where a result comes from: code revision, package versions, machine."""

from __future__ import annotations

import getpass
import hashlib
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import mianet

PACKAGES = ("torch", "ray", "optuna", "mlflow", "numpy", "mianet-tuning")
"""Distributions whose versions are recorded."""

_GIT_TIMEOUT_SECONDS = 10


@cache
def git_revision() -> tuple[str, bool]:
    """Return the git revision of the code, and whether tracked files differ from it.

    The revision is ``unknown`` if the code is not in a git work tree, or git is missing.
    """
    source = Path(mianet.__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source.parent), *arguments]
        output = subprocess.check_output(
            command, text=True, stderr=subprocess.DEVNULL, timeout=_GIT_TIMEOUT_SECONDS
        )
        return output.strip()

    try:
        git("ls-files", "--error-unmatch", source.name)
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD"), bool(changes)
    except (OSError, subprocess.SubprocessError):
        return "unknown", False


@cache
def code_digest() -> str:
    """Return a digest (16 hex digits) of the package ``mianet``, which determines a curve."""
    digest = hashlib.sha256()
    folder = Path(mianet.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def package_version(package: str) -> str:
    """Return an installed distribution's version, or ``not installed``."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def provenance_tags() -> dict[str, str]:
    """Return code revision, package versions and machine as tags of a run."""
    revision, dirty = git_revision()
    return {
        "mlflow.user": _user(),
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": revision,
        "git_revision": revision,
        "git_dirty": str(dirty).lower(),
        "host": platform.node(),
        "version.python": platform.python_version(),
        **{f"version.{package}": package_version(package) for package in PACKAGES},
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # the user id has no entry, as in some containers
        return "unknown"
