"""Whether PyTorch can train on the GPUs that Ray counts: found out before the first trial."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import ray
import torch
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mianet.errors import InputError
from tuning.compute.gpu_share import memory_of_gpus

VISIBLE = "CUDA_VISIBLE_DEVICES"

_NONE = ("", "-1", "NoDevFiles")
_PROBE_SECONDS = 60
_ADVICE = {
    "too old": "update the driver, or install a PyTorch that was built for an older CUDA",
    "No CUDA GPUs": f"{VISIBLE} must name GPUs that nvidia-smi -L lists",
    "invalid device": f"{VISIBLE} must name GPUs that nvidia-smi -L lists",
}
"""Words of CUDA's errors → what to do."""


def check_usable(nodes: Sequence[Mapping[str, Any]]) -> None:
    """Make sure that PyTorch can use the GPUs of the nodes; busy ones count as usable.

    Args:
        nodes: As ``ray.nodes()`` describes them.

    Raises:
        InputError: It cannot on one of them.
    """
    asked = {}
    for node in nodes:
        if node["Resources"].get("GPU", 0) >= 1 and "NodeID" in node:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[_trouble.options(scheduling_strategy=there).remote()] = node
    if not asked:
        return
    answered, waiting = ray.wait([*asked], num_returns=len(asked), timeout=_PROBE_SECONDS)
    for task in waiting:
        ray.cancel(task)
    for answer in answered:
        if reason := _answer(answer):
            raise InputError(
                f"PyTorch must be able to use the GPUs that Ray counts, but on "
                f"{asked[answer].get('NodeManagerAddress', 'a node')} {reason}; or train on CPUs "
                "with --gpus-per-trial 0"
            )


def trouble() -> str:
    """Return why PyTorch cannot use this process's GPU, and what to do; empty if it can."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"PyTorch {torch.__version__} is a build for CPUs; install one for GPUs"
    try:
        torch.cuda.init()
        torch.zeros(1, device="cuda")
    except (RuntimeError, AssertionError) as error:  # of CUDA; of a PyTorch without it
        said = (str(error).splitlines() or [type(error).__name__])[0]
        advice = [do for words, do in _ADVICE.items() if words in said]
        seen = f" with {VISIBLE}={os.environ.get(VISIBLE, '')}"
        return f"it says: {said}{seen}; {(advice or ['nvidia-smi there says more'])[0]}"
    return ""


def hidden() -> str:
    """Return in words that the environment hides the GPUs of this machine; empty if it does not."""
    given = os.environ.get(VISIBLE)
    if given is not None and given.strip() in _NONE and memory_of_gpus():
        return f"{VISIBLE}={given} hides the GPUs of this machine"
    return ""


def _answer(reference: ray.ObjectRef) -> str:
    try:
        reason: str = ray.get(reference)
    except RayError:  # the node has just gone
        return ""
    return reason


_trouble = ray.remote(num_cpus=0, num_gpus=0.01, max_retries=0, max_calls=1)(trouble)
