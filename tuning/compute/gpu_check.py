"""The cluster's GPUs, before the first trial: whether PyTorch can use them, and their memory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray
import torch
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mianet.errors import InputError, first_line
from tuning.compute.gpu_limit import GIB

VISIBLE = "CUDA_VISIBLE_DEVICES"
MEMORY_RESOURCE = "gpu_memory"
"""A node's Ray resource: GiB of each of its GPUs, known before the node has started."""

_HIDDEN = ("", "-1", "NoDevFiles")
_PROBE_SECONDS = 60
_ADVICE = {
    "too old": "update the driver, or install a PyTorch that was built for an older CUDA",
    "No CUDA GPUs": f"{VISIBLE} must name GPUs that nvidia-smi -L lists",
    "invalid device": f"{VISIBLE} must name GPUs that nvidia-smi -L lists",
}
"""Text in CUDA's errors → what to do."""


def check_usable(nodes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse ``ray.nodes()`` whose GPUs PyTorch cannot use; busy ones count as usable."""
    for node, reason in _answers(nodes, cuda_problem, num_gpus=0.01, max_calls=1):
        if reason:
            raise InputError(
                f"PyTorch must be able to use the GPUs that Ray counts, but on "
                f"{node.get('NodeManagerAddress', 'a node')} {reason}; or train on CPUs with "
                "--gpus-per-trial 0"
            )


def smallest_gpu(nodes: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the bytes of the smallest GPU of ``ray.nodes()``; None if no node can tell.

    Nodes that are only planned have nothing but ``Resources``.
    """
    reported = [node["Resources"].get(MEMORY_RESOURCE) for node in nodes]
    known = [int(gib * GIB) for gib in reported if gib]
    to_ask = [node for node, gib in zip(nodes, reported, strict=True) if not gib]
    known += [size for _, sizes in _answers(to_ask, memory_of_gpus) for size in sizes]
    return min(known, default=None)


def _answers(
    nodes: Sequence[Mapping[str, Any]], function: Callable[[], Any], **options: Any
) -> Iterator[tuple[Mapping[str, Any], Any]]:
    """Yield each node with a GPU and what a function returns there, if within a minute."""
    task = ray.remote(num_cpus=0, max_retries=0, **options)(function)
    pending = {}
    for node in nodes:
        if node["Resources"].get("GPU", 0) >= 1 and "NodeID" in node:
            on_node = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            pending[task.options(scheduling_strategy=on_node).remote()] = node
    if not pending:
        return
    answered, waiting = ray.wait([*pending], num_returns=len(pending), timeout=_PROBE_SECONDS)
    for reference in waiting:
        ray.cancel(reference)
    for reference in answered:
        with suppress(RayError):  # the node has just gone
            yield pending[reference], ray.get(reference)


def cuda_problem() -> str:
    """Return why PyTorch cannot use this process's GPU, and what to do; empty if it can."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"PyTorch {torch.__version__} is a CPU build; install a GPU build"
    try:
        torch.cuda.init()
        torch.zeros(1, device="cuda")
    except (RuntimeError, AssertionError) as error:  # of CUDA; of a PyTorch without it
        message = first_line(error)
        advice = [text for words, text in _ADVICE.items() if words in message]
        setting = f" with {VISIBLE}={os.environ.get(VISIBLE, '')}"
        advice.append("run nvidia-smi there to find out why")
        return f"it fails: {message}{setting}; {advice[0]}"
    return ""


def hidden_gpus() -> str:
    """Return in words that the environment hides the GPUs of this machine; empty if it does not."""
    given = os.environ.get(VISIBLE)
    if given is not None and given.strip() in _HIDDEN and memory_of_gpus():
        return f"{VISIBLE}={given} hides the GPUs of this machine"
    return ""


def memory_of_gpus() -> list[int]:
    """Return the bytes of each GPU of this machine, as the driver reports them.

    For GPUs split by MIG it reports the total of their instances, so they are left out. CUDA is not
    initialised, because that would take memory on a GPU that trials fill.
    """
    asked = "--query-gpu=memory.total,mig.mode.current"
    query = ("nvidia-smi", asked, "--format=csv,noheader,nounits")
    try:
        output = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
        gpus = [line.split(", ") for line in output.stdout.splitlines()]
        return [int(memory) * 2**20 for memory, *split in gpus if split != ["Enabled"]]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
