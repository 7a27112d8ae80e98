"""Start Ray on this machine for one search: reachable from this machine and by this user only.

By default, Ray listens on every address, and lets everybody read its token and write its logs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import secrets
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

from mianet.errors import InputError, first_line

_LONGEST_FOLDER = 39
"""Most bytes in the folder's path: Ray appends that of a socket, at most 107 bytes in all."""

_LIMITS: Mapping[str, tuple[int, int, int, str]] = {
    "address space (KiB)": (resource.RLIMIT_AS, 8 * 2**30, 2**10, "-v"),
    "open files": (resource.RLIMIT_NOFILE, 256, 1, "-n"),
}
"""What is limited → the limit, the least that suffices, its unit, and its ``ulimit`` option."""

_MOST_PRELOADED = 16
_PACKAGES = Path(__file__).resolve().parents[2]
"""The folder that contains this project's packages."""


def start(preloaded: str = "") -> None:
    """Start Ray on this machine and connect to it; raise an InputError if it does not start.

    On a machine with few enough cores, each worker imports the module ``preloaded`` as it
    starts: Ray starts a worker per core, each of which then takes 250 MB.
    """
    _check_limits()
    folder = _private_folder()
    _require_token()
    _stay_on_loopback()
    os.environ.pop(ray_constants.GCS_PORT_ENVIRONMENT_VARIABLE, None)  # set on a cluster's head
    if (os.cpu_count() or 1) <= _MOST_PRELOADED:
        os.environ["RAY_preload_python_modules"] = preloaded  # noqa: SIM112
    # Ray considers idle workers superfluous once starting trials have reserved their cores.
    os.environ["RAY_idle_worker_killing_time_threshold_ms"] = "60000"  # noqa: SIM112
    try:
        initialise(
            address="local",
            include_dashboard=False,
            _temp_dir=str(folder / "ray"),  # Ray's default folder is open to everybody
        )
    except Exception as error:  # Ray lets any error through, even a plain Exception
        raise InputError(
            f"Ray must start on this machine, but does not ({first_line(error)}); see raylet.err "
            f"and gcs_server.out in {folder}/ray/session_latest/logs. Often the cause is a limit "
            "(ulimit -a), too little memory, or a busy machine, where trying again helps"
        ) from error


def _check_limits() -> None:
    """Refuse limits with which Ray cannot start; Ray itself would take half a minute to fail."""
    for name, (limit, least, unit, option) in _LIMITS.items():
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY and soft < least:
            raise InputError(
                f"the limit on {name} must be at least {least // unit:,} for Ray, but is "
                f"{soft // unit:,}; raise it with ulimit {option}"
            )


def initialise(**options: Any) -> None:
    """Call ``ray.init`` so that workers import our packages, and not others of the same name.

    Ray puts the current folder first on the workers' import path.
    """
    with contextlib.chdir(_PACKAGES):
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)


def _private_folder() -> Path:
    """Return the folder for Ray's sessions, which nobody else can enter or replace."""
    parent = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()).absolute()
    folder = parent / f"mianet-{os.getuid()}"
    if len(os.fsencode(folder)) > _LONGEST_FOLDER:
        raise InputError(
            f"the path of Ray's temporary files must have at most {_LONGEST_FOLDER} bytes, but "
            f"{folder} has {len(os.fsencode(folder))}; set RAY_TMPDIR to a shorter path"
        )
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        _check_owned(folder)
        folder.chmod(0o700)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f"Ray's folder for temporary files must be writable, but {folder} is not "
            f"({error.strerror}); set RAY_TMPDIR to a writable folder"
        ) from error
    return folder


def _check_owned(folder: Path) -> None:
    """Make sure that no other user created the folder or can replace it."""
    found, parent = folder.lstat(), folder.parent.stat()
    replaceable = parent.st_mode & stat.S_IWOTH and not parent.st_mode & stat.S_ISVTX
    if replaceable or not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise InputError(
            f"Ray's temporary files must be in a folder that only you control, but {folder} is "
            "another user's, a link, or can be replaced by others; set RAY_TMPDIR to a folder of "
            "your own"
        )


def _require_token() -> None:
    """Make Ray accept only processes that know a secret, which is never written to disk.

    Processes inherit it in their environment, which other users cannot read.
    """
    os.environ.pop("RAY_AUTH_MODE", None)  # Ray requires a token unless this says otherwise
    if not os.environ.get("RAY_AUTH_TOKEN"):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    AuthenticationTokenLoader.instance().reset_cache()


def _stay_on_loopback() -> None:
    """Make Ray listen on 127.0.0.1 only, in this process and those that it starts."""
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False


def check_token_file() -> None:
    """Refuse a cluster's token that other users of this machine can read."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token"))
    if path.exists() and path.stat().st_mode & 0o077:
        raise InputError(
            f"Ray's token must be readable only by you, but other users can read {path}, so they "
            f"can run code as you on the cluster; give the cluster a new token and chmod 600 {path}"
        )
