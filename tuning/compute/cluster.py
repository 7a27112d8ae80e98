"""How trials share the connected cluster."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
import yaml

from mianet.errors import InputError, first_line
from tuning.compute.gpu_check import check_usable, hidden_gpus, smallest_gpu
from tuning.compute.gpu_share import MemoryNeed, choose_share, describe_request

AUTOSCALING_VARIABLE = "MIANET_AUTOSCALING_CONFIG"
"""Names the file that says which nodes the cluster may start; set on the head node."""

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Share:
    """What each trial gets, and how many run at once."""

    workers: int
    cpus: float  # cores; a fraction if GPUs hold more trials than there are cores
    gpus: float  # possibly a fraction
    reason: str = ""  # why a trial gets these GPUs, in words

    @property
    def threads(self) -> int:
        return max(1, int(self.cpus))

    @property
    def each(self) -> str:
        """Return in words what a trial gets, and why."""
        why = f" ({self.reason})" if self.reason else ""
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.cpus:g} CPU{gpus} each{why}"

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"

    @property
    def resources(self) -> dict[str, float]:
        """Return the request as Ray understands it."""
        return {"CPU": self.cpus, "GPU": self.gpus} if self.gpus else {"CPU": self.cpus}


def share_resources(
    trials: int,
    *,
    workers: int | None = None,
    cpus_per_trial: int | None = None,
    gpus_per_trial: float | None = None,
    need: MemoryNeed | None = None,
) -> Share:
    """Divide the connected cluster among the trials.

    A trial trains on a GPU if the cluster has any, and shares it if the study is large enough and
    the memory allows (``gpu_share``). By default at most a quarter of the study runs at once,
    unless there are more GPUs: a sampler learns from trials that have ended. Nodes that the cluster
    would start for waiting trials count as if they had started.

    Args:
        trials: Trials of the study.
        workers: Trials at once, if the user sets it.
        cpus_per_trial: CPU cores of a trial, if the user sets it.
        gpus_per_trial: GPUs of a trial, if the user sets it.
        need: GPU memory that a trial needs, if it is known.

    Raises:
        InputError: No node can ever run such a trial, or PyTorch cannot use its GPUs.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]
    planned = _planned_nodes()
    nodes = planned or [node["Resources"] for node in alive]
    gpus, reason = gpus_per_trial or 0.0, ""
    if gpus_per_trial != 0 and _largest(nodes, "GPU") >= 1:
        smallest = smallest_gpu([*({"Resources": node} for node in planned), *alive])
        gpu_count = sum(int(node.get("GPU", 0)) for node in nodes)
        wanted = min(workers or max(gpu_count, trials // 4), trials)
        if gpus:
            reason = describe_request(gpus, need, smallest)
        else:
            gpus, reason = choose_share(nodes, wanted=wanted, need=need, device_bytes=smallest)
        check_usable(alive)
    elif gpus_per_trial is None:
        reason = hidden_gpus()
    slots = _slots(nodes, cpus_per_trial or _least_cores(nodes, gpus), gpus)
    if slots == 0:
        raise InputError(
            f"a trial must fit on a node, but asks for {cpus_per_trial or 1} cores and {gpus:g} "
            f"GPUs, and nodes have at most {_largest(nodes, 'CPU'):g} cores and "
            f"{_largest(nodes, 'GPU'):g} GPUs; lower --cpus-per-trial or --gpus-per-trial"
        )
    at_once = slots if gpus else min(slots, max(1, trials // 4))
    workers = min(workers or at_once, slots, trials)
    return Share(workers, cpus_per_trial or _most_cores(nodes, gpus, workers), gpus, reason)


def _most_cores(nodes: Sequence[Mapping[str, float]], gpus: float, workers: int) -> float:
    """Return the most CPU cores per trial such that the nodes still hold all workers."""
    cores = _least_cores(nodes, gpus)
    while _slots(nodes, int(cores) + 1, gpus) >= workers:
        cores = int(cores) + 1
    return cores


def _slots(nodes: Sequence[Mapping[str, float]], cpus: float, gpus: float) -> int:
    """Return how many trials of this size the nodes hold at once."""
    return sum(
        int(min((node.get("CPU", 0) + _ROUNDING) // cpus, _on_gpus(node, gpus))) for node in nodes
    )


def _on_gpus(node: Mapping[str, float], gpus: float) -> float:
    """Return how many trials a node's GPUs hold; a fraction is always of a single GPU."""
    if gpus >= 1:
        return node.get("GPU", 0) // gpus
    return int(node.get("GPU", 0)) * int(1 / gpus + _ROUNDING) if gpus else math.inf


def _least_cores(nodes: Sequence[Mapping[str, float]], gpus: float) -> float:
    """Return the fewest cores of a trial: one, or less if GPUs would otherwise stay idle."""
    if not gpus:
        return 1.0
    shares = [node.get("CPU", 0) / fit for node in nodes if (fit := _on_gpus(node, gpus))]
    least = min([share for share in shares if share], default=1.0)
    return min(1.0, max(1, int(100 * least)) / 100)


def _largest(nodes: Sequence[Mapping[str, float]], resource: str) -> float:
    return max(node.get(resource, 0) for node in nodes)


def _planned_nodes() -> list[Mapping[str, float]]:
    """Return the nodes of the cluster at its full size; empty if that is not known.

    Ray does not tell a driver what its autoscaler may start.
    """
    path = os.environ.get(AUTOSCALING_VARIABLE)
    if not path:
        return []
    try:
        plan = yaml.safe_load(Path(path).read_text())
        types, head = plan["available_node_types"], plan["head_node_type"]
        workers = [
            kind["resources"]
            for name, kind in types.items()
            for _ in range(kind.get("max_workers", 0))
            if name != head or plan["provider"]["type"] == "local"
        ]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(
            f"{AUTOSCALING_VARIABLE} must name the cluster's file, but {path} cannot be read "
            f"({first_line(error)}); correct it, or unset it to use only the running nodes"
        ) from None
    workers.sort(key=lambda node: node.get("GPU", 0), reverse=True)
    return workers[: plan["max_workers"]] if all(workers) else []
