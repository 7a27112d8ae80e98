"""Ray: the running cluster when there is one, else a local one, and how trials share it."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
import yaml
from ray._private.services import canonicalize_bootstrap_address
from ray.exceptions import AuthenticationError

from mianet.errors import InputError

AUTOSCALING_VARIABLE = "MIANET_AUTOSCALING_CONFIG"
"""Names the file that says which nodes the cluster may start; set on the head of such a cluster."""


@dataclass(frozen=True)
class Share:
    """What each trial gets, and how many run at once.

    Attributes:
        workers: Trials at once.
        cpus: CPU cores of a trial.
        gpus: GPUs of a trial, possibly a fraction.
    """

    workers: int
    cpus: int
    gpus: float

    @property
    def device(self) -> str:
        """Return the device that a trial trains on."""
        return "cuda" if self.gpus else "cpu"

    @property
    def resources(self) -> dict[str, float]:
        """Return the request as Ray understands it."""
        return {"CPU": self.cpus, "GPU": self.gpus} if self.gpus else {"CPU": self.cpus}


def connect() -> str:
    """Connect to the running Ray cluster, or start one on this machine; return which, in words.

    A cluster is found as Ray finds it: by ``RAY_ADDRESS``, or as the one last started here.

    Raises:
        InputError: ``RAY_ADDRESS`` names a cluster that does not answer, or does not let us in.
    """
    if ray.is_initialized():
        return "the Ray of this process"
    address = _running_cluster()
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (AuthenticationError, ConnectionError) as error:
        raise InputError(
            f"the cluster at {address or 'this machine'} must let us in, but does not "
            f"({_first_line(error)}); its token must be in ~/.ray/auth_token, and RAY_AUTH_MODE "
            "must be token"
        ) from None
    # SIGTERM, which a spot instance gets before it goes, ends a command as Ctrl-C does. Ray has
    # just installed a handler of its own that aborts the process.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    return f"the Ray cluster at {address}" if address else "a local Ray on this machine"


def share_resources(
    trials: int,
    *,
    workers: int | None = None,
    cpus_per_trial: int | None = None,
    gpus_per_trial: float | None = None,
) -> Share:
    """Divide the connected cluster among the trials.

    By default a trial takes one GPU where the cluster has any, and on CPUs so many cores that at
    most a quarter of the study runs at once: a sampler learns from trials that have ended. Nodes
    that the cluster may start when trials wait for them count as if they were there.

    Raises:
        InputError: The cluster can never run such a trial.
    """
    nodes = _planned_nodes() or [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = gpus_per_trial if gpus_per_trial is not None else float(_largest(nodes, "GPU") >= 1)
    slots = _slots(nodes, cpus_per_trial or 1, gpus)
    if slots == 0:
        raise InputError(
            f"a trial must fit a node, but it asks for {cpus_per_trial or 1} cores and {gpus:g} "
            f"GPU where nodes have at most {_largest(nodes, 'CPU'):g} and "
            f"{_largest(nodes, 'GPU'):g}; "
            "lower --cpus-per-trial or --gpus-per-trial"
        )
    at_once = slots if gpus else min(slots, max(1, trials // 4))
    workers = min(workers or at_once, slots, trials)
    cpus = cpus_per_trial or 1
    while cpus_per_trial is None and _slots(nodes, cpus + 1, gpus) >= workers:
        cpus += 1
    return Share(workers, cpus, gpus)


def _slots(nodes: Sequence[Mapping[str, float]], cpus: int, gpus: float) -> int:
    """Return how many trials of this size the nodes hold at once."""
    return sum(
        int(min(node.get("CPU", 0) // cpus, node.get("GPU", 0) / gpus if gpus else math.inf))
        for node in nodes
    )


def _largest(nodes: Sequence[Mapping[str, float]], resource: str) -> float:
    return max(node.get(resource, 0) for node in nodes)


def _planned_nodes() -> list[Mapping[str, float]]:
    """Return the nodes of the cluster when all have come that may; empty where that is not known.

    Ray does not tell a driver what its autoscaler may start.
    """
    path = os.environ.get(AUTOSCALING_VARIABLE)
    if not path:
        return []
    try:
        plan = yaml.safe_load(Path(path).read_text())
        types = plan["available_node_types"]
        head = plan["head_node_type"]
        workers = [
            kind["resources"]
            for name, kind in types.items()
            for _ in range(kind.get("max_workers", 0))
            if name != head or plan["provider"]["type"] == "local"
        ]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(
            f"{AUTOSCALING_VARIABLE} must name the cluster's file, but {path} cannot be read "
            f"({_first_line(error)}); unset it to use the nodes that are there"
        ) from None
    workers.sort(key=lambda node: node.get("GPU", 0), reverse=True)
    return workers[: plan["max_workers"]] if all(workers) else []


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _running_cluster() -> str | None:
    """Return the address of a cluster that answers, or None."""
    try:
        address = canonicalize_bootstrap_address(None)
        if address is None:
            return None
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        if given := os.environ.get("RAY_ADDRESS"):
            raise InputError(
                f"RAY_ADDRESS must name a running cluster, but {given} does not answer "
                f"({error}); start it or unset RAY_ADDRESS to use this machine alone"
            ) from None
        return None
    return str(address)
