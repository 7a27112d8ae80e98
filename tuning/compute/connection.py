"""Connect to Ray: to the named cluster, or to one that this process starts.

This module loads nothing but Ray, so that a command can start it while it loads the rest.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

import ray
from ray._private.services import canonicalize_bootstrap_address
from ray.exceptions import AuthenticationError

from mianet.errors import InputError, first_line
from tuning.compute import local_ray

_LISTENS = "0A"  # in the tables of /proc/net


def connect(preloaded: str = "") -> str:
    """Connect to the Ray that ``RAY_ADDRESS`` names, else start one here; say which.

    A cluster that merely happens to run here is left alone: it may be another user's, who could
    read what is sent to it, and run code in the processes that join it. The workers of a Ray
    started here import the module ``preloaded`` as they start.

    Raises:
        InputError: The cluster does not answer, or refuses access; or Ray does not start.
    """
    if ray.is_initialized():
        return "the Ray instance of this process"
    address = _named_cluster()
    if address:
        if os.environ["RAY_ADDRESS"] == "auto":
            print(f"RAY_ADDRESS=auto: joining the Ray cluster at {address}", flush=True)
        _join(address)
    else:
        local_ray.start(preloaded)
    # Make SIGTERM, which a spot instance gets before it is reclaimed, act like Ctrl-C. Ray has
    # just installed its own handler, which aborts the process.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    return f"the Ray cluster at {address}" if address else "a local Ray instance"


def starts_here() -> bool:
    """Say whether ``connect`` starts Ray on this machine; raise an InputError as it does."""
    return not (ray.is_initialized() or _named_cluster())


def _named_cluster() -> str | None:
    """Return the address that ``RAY_ADDRESS`` names, if any; refuse it if nothing answers there."""
    given = os.environ.get("RAY_ADDRESS", "")
    if given in ("", "local"):
        return None
    try:
        address = str(canonicalize_bootstrap_address(given))
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"RAY_ADDRESS must name a running cluster, but {given} does not answer "
            f"({error}); start the cluster, or unset RAY_ADDRESS to use this machine alone"
        ) from None
    if given == "auto" and _listening_users(int(port)) != {os.getuid()}:
        raise InputError(
            f"RAY_ADDRESS=auto must find a cluster of yours on this machine, but the one at "
            f"{address} is not yours; set RAY_ADDRESS to its address to join it anyway"
        )
    return address


def _listening_users(port: int) -> set[int]:
    """Return the users whose processes listen on a port of this machine."""
    rows = [
        row.split()
        for table in ("tcp", "tcp6")
        for row in Path("/proc/net", table).read_text().splitlines()[1:]
    ]
    return {
        int(r[7]) for r in rows if r[3] == _LISTENS and int(r[1].rpartition(":")[2], 16) == port
    }


def _join(address: str) -> None:
    local_ray.check_token_file()
    try:
        local_ray.initialise(address=address)
    except (AuthenticationError, ConnectionError) as error:
        raise InputError(
            f"the cluster at {address} must accept the connection, but does not "
            f"({first_line(error)}); put its token into ~/.ray/auth_token, and set "
            "RAY_AUTH_MODE=token"
        ) from None
