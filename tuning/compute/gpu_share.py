"""How many trials share a GPU: bounded by its memory, the CPU cores beside it, and the study.

Ray counts fractions of a GPU but enforces none; ``gpu_limit`` enforces them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mianet.config import Hyperparameters, Settings
from mianet.data.search_data import SearchData
from mianet.model import build_model
from tuning.compute.gpu_limit import CONTEXT_BYTES, GIB

MOST_ON_A_GPU = 4
"""The most trials that share a GPU unless more are asked for."""
MEMORY_RESOURCE = "gpu_memory"
"""A node's Ray resource: GiB of each of its GPUs, known before the node has started."""

_FLOAT = 4
_STATES = 4  # of a weight: itself, its gradient, Adam's two moments
_PROBE_SECONDS = 60
_SIZES = ("latent_multiplier", "hidden_dim", "batch_images", "discriminator_dim")


@dataclass(frozen=True)
class Need:
    """Estimate of the GPU memory that a trial needs, in bytes; on the high side.

    Attributes:
        data: Images that it trains on and scores.
        weights: Weights, gradients and optimiser moments of all executions.
        work: Temporary tensors of a step and of scoring.
    """

    data: int
    weights: int
    work: int

    @property
    def total(self) -> int:
        """Return the sum, including what CUDA takes in every process."""
        return self.data + self.weights + self.work + CONTEXT_BYTES

    def __str__(self) -> str:
        """Return it in words."""
        parts = (self.data, self.weights, self.work, CONTEXT_BYTES)
        data, weights, work, context = (f"{part / GIB:.2f}" for part in parts)
        return (
            f"about {self.total / GIB:.1f} GiB (data {data}, weights and their optimiser "
            f"{weights}, a step {work}, CUDA {context})"
        )


def need_of(
    settings: Settings,
    *,
    images: int,
    feature_dim: int,
    attribute_dim: int,
    classes: int,
    executions: int = 1,
) -> Need | None:
    """Estimate the GPU memory that a training needs.

    Weights are counted; their bfloat16 copies count half. The work of a step is three tensors
    (value, gradient, temporary) for each layer's rows of images and classes in each execution, once
    in the common pool and once in the pool of the CUDA graph, plus one weight gradient beyond those
    that the optimiser keeps. Scoring copies the held-out images of an execution, at most half of
    all.

    Args:
        settings: The model's hyperparameters.
        images: Images that are trained on or scored.
        feature_dim: Width of their features.
        attribute_dim: Width of the class attributes.
        classes: Classes, seen and unseen.
        executions: Trainings that run side by side.

    Returns:
        The estimate; None for a model other than MIANet.
    """
    if not isinstance(settings, Hyperparameters):
        return None
    with torch.device("meta"):
        model = build_model(
            settings,
            feature_dim=feature_dim,
            attribute_dim=attribute_dim,
            classes=classes,
            seed=0,
        )
    weights = sum(weight.numel() for weight in model.parameters())
    latent = settings.latent_dim(classes)
    rows = settings.batch_images + 2 * classes
    step = 3 * rows * (3 * feature_dim + 3 * settings.hidden_dim + 4 * latent) + 2 * latent**2
    states = _STATES + 0.5 * (settings.precision == "bf16")
    widest = max(weight.numel() for weight in model.parameters())
    return Need(
        data=_FLOAT * images * feature_dim * 3 // 2,
        weights=int(_FLOAT * states * executions * weights),
        work=_FLOAT * (2 * executions * step + 2 * widest),
    )


def need_of_any(
    data: SearchData, candidates: Iterable[Settings], executions: int = 1
) -> Need | None:
    """Return the largest memory need of several settings on a search's data.

    Args:
        data: What is searched on.
        candidates: Hyperparameters of each training.
        executions: Trainings that run side by side.

    Returns:
        The largest estimate; None if one of them is unknown.
    """
    images, feature_dim = data.features.shape
    classes, attribute_dim = data.class_attributes.shape
    needs = [
        need_of(
            settings,
            images=images,
            feature_dim=feature_dim,
            attribute_dim=attribute_dim,
            classes=classes,
            executions=executions,
        )
        for settings in candidates
    ]
    return most(needs)


def most(needs: Sequence[Need | None]) -> Need | None:
    """Return the largest estimate; None if one is unknown."""
    known = [need for need in needs if need is not None]
    return max(known, key=lambda need: need.total) if len(known) == len(needs) else None


def largest_of(settings: Settings, space: Mapping[str, BaseDistribution]) -> Settings:
    """Return the settings with every searched size at its upper bound."""
    sizes = {name: _highest(space[name]) for name in _SIZES if name in space}
    return settings.replace(**sizes)


def choose(
    nodes: Sequence[Mapping[str, float]],
    *,
    wanted: int,
    need: Need | None,
    device_bytes: int | None,
) -> tuple[float, str]:
    """Return the fraction of a GPU that each trial gets by default, and why.

    Args:
        nodes: Ray resources of each node; some have GPUs.
        wanted: Trials that should run at once.
        need: GPU memory that a trial needs; None if unknown.
        device_bytes: Memory of the smallest GPU in bytes; None if unknown.

    Returns:
        GPUs for each trial, and the reason in words.
    """
    with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1]
    gpus = sum(int(node["GPU"]) for node in with_gpu)
    if wanted <= gpus:
        return 1.0, f"{gpus} GPUs are enough for {wanted} trials at once"
    if need is None:
        return 1.0, "no estimate exists of the GPU memory that this model needs"
    if device_bytes is None:
        return 1.0, (
            "the memory of the GPUs is unknown (none has started yet, or MIG splits them), and the "
            f"cluster's file does not give {MEMORY_RESOURCE}"
        )
    needed = f"a trial needs {need} of the {device_bytes / GIB:.1f} GiB of the smallest GPU"
    bounds = {
        "its memory": device_bytes // need.total,
        "the cores beside a GPU": int(min(n.get("CPU", 0) // int(n["GPU"]) for n in with_gpu)),
        "the trials that should run at once": -(-wanted // gpus),
        "the default maximum": MOST_ON_A_GPU,
    }
    reason = min(bounds, key=lambda name: bounds[name])
    trials = max(1, bounds[reason])
    if bounds["its memory"] < 1:
        return 1.0, f"{needed}: it may not fit"
    return share_of(trials), f"{needed}; {trials} on a GPU, limited by {reason}"


def asked_for(gpus: float, need: Need | None, device_bytes: int | None) -> str:
    """Return the words for a share that the user asked for, with a warning if it is too small.

    Args:
        gpus: GPUs for each trial.
        need: GPU memory that a trial needs; None if unknown.
        device_bytes: Memory of the smallest GPU in bytes; None if unknown.
    """
    if gpus >= 1 or need is None or device_bytes is None or need.total <= gpus * device_bytes:
        return "as asked for"
    return (
        f"as asked for, but a trial needs {need} and {gpus:g} of the smallest GPU is "
        f"{gpus * device_bytes / GIB:.1f} GiB: it may not fit"
    )


def share_of(trials: int) -> float:
    """Return the fraction of a GPU that each of so many trials gets, in Ray's units of 1/10,000."""
    return 1.0 if trials == 1 else (10_000 // trials) / 10_000


def smallest_gpu(nodes: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the bytes of the cluster's smallest GPU; None if no node can tell.

    Args:
        nodes: As ``ray.nodes()`` describes them; planned nodes with ``Resources`` only.
    """
    known: list[int] = []
    asked = []
    for node in nodes:
        if node["Resources"].get(MEMORY_RESOURCE):
            known.append(int(node["Resources"][MEMORY_RESOURCE] * GIB))
        elif node["Resources"].get("GPU", 0) >= 1 and "NodeID" in node:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked.append(_memory_of_gpus.options(scheduling_strategy=there).remote())
    if asked:
        answered, _ = ray.wait(asked, num_returns=len(asked), timeout=_PROBE_SECONDS)
        known.extend(size for answer in answered for size in _answer(answer))
    return min(known, default=None)


def _answer(reference: ray.ObjectRef) -> list[int]:
    try:
        sizes: list[int] = ray.get(reference)
    except RayError:  # the node has just gone
        return []
    return sizes


def memory_of_gpus() -> list[int]:
    """Return the bytes of each GPU of this machine, as the driver reports them.

    Of GPUs that are split by MIG it reports what the instances have together: they are left out.
    CUDA is not initialised, because that would take memory of a GPU that trials fill.
    """
    asked = "--query-gpu=memory.total,mig.mode.current"
    query = ("nvidia-smi", asked, "--format=csv,noheader,nounits")
    try:
        output = subprocess.run(
            query, capture_output=True, text=True, timeout=30, check=True
        ).stdout
        gpus = [line.split(", ") for line in output.splitlines()]
        return [int(memory) * 2**20 for memory, *split in gpus if split != ["Enabled"]]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


_memory_of_gpus = ray.remote(num_cpus=0, max_retries=0)(memory_of_gpus)


def _highest(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return max(distribution.choices, key=lambda choice: float(choice or 0))
    return distribution.high  # type: ignore[attr-defined]
