"""How many trials share a GPU: bounded by its memory, the CPU cores beside it, and the study.

Ray counts fractions of a GPU but enforces none; ``gpu_limit`` enforces them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution

from mianet.config import Hyperparameters, Settings
from mianet.data.search_data import SearchData
from mianet.model import build_model
from tuning.compute.gpu_check import MEMORY_RESOURCE
from tuning.compute.gpu_limit import CONTEXT_BYTES, GIB

MOST_TRIALS_PER_GPU = 4
"""The most trials that share a GPU unless more are asked for."""

_FLOAT = 4
_STATES = 4  # per weight: itself, its gradient, Adam's two moments
_SIZES = ("latent_multiplier", "hidden_dim", "batch_images", "discriminator_dim")


@dataclass(frozen=True)
class MemoryNeed:
    """Estimate, on the high side, of the GPU memory that a trial needs, in bytes."""

    data: int  # images that it trains on and scores
    weights: int  # of all executions, with gradients and optimiser moments
    work: int  # temporary tensors of a step and of scoring

    @property
    def total(self) -> int:
        """Return the sum, including what CUDA takes in every process."""
        return self.data + self.weights + self.work + CONTEXT_BYTES

    def __str__(self) -> str:
        parts = (self.data, self.weights, self.work, CONTEXT_BYTES)
        data, weights, work, context = (f"{part / GIB:.2f}" for part in parts)
        return (
            f"about {self.total / GIB:.1f} GiB (data {data}, weights and optimiser state "
            f"{weights}, a step {work}, CUDA {context})"
        )


def estimate_need(
    candidates: Iterable[Settings],
    *,
    images: int,
    feature_dim: int,
    attribute_dim: int,
    classes: int,
    executions: int = 1,
) -> MemoryNeed | None:
    """Estimate the GPU memory that the most demanding of some trainings needs.

    Weights are counted; their bfloat16 copies count half. The work of a step is three tensors
    (value, gradient, temporary) for each layer's rows of images and classes in each execution, once
    in the common pool and once in the pool of the CUDA graph, plus one weight gradient beyond those
    that the optimiser keeps. Scoring copies the held-out images of an execution, at most half of
    all. There is no estimate for models other than MIANet.

    Args:
        candidates: The model's hyperparameters in each of them.
        images: Images that are trained on or scored.
        feature_dim: Width of their features.
        attribute_dim: Width of the class attributes.
        classes: Classes, seen and unseen.
        executions: Trainings that run side by side.
    """
    needs = []
    for settings in candidates:
        if not isinstance(settings, Hyperparameters):
            return None
        shape = {"feature_dim": feature_dim, "attribute_dim": attribute_dim, "classes": classes}
        with torch.device("meta"):
            weights = [w.numel() for w in build_model(settings, **shape, seed=0).parameters()]
        latent = settings.latent_dim(classes)
        rows = settings.batch_images + 2 * classes
        step = 3 * rows * (3 * feature_dim + 3 * settings.hidden_dim + 4 * latent) + 2 * latent**2
        states = _STATES + 0.5 * (settings.precision == "bf16")
        need = MemoryNeed(
            data=_FLOAT * images * feature_dim * 3 // 2,
            weights=int(_FLOAT * states * executions * sum(weights)),
            work=_FLOAT * (2 * executions * step + 2 * max(weights)),
        )
        needs.append(need)
    return max(needs, key=lambda need: need.total)


def search_need(
    data: SearchData, candidates: Iterable[Settings], executions: int = 1
) -> MemoryNeed | None:
    """Return the largest need of several settings on a search's data; see ``estimate_need``."""
    images, feature_dim = data.features.shape
    classes, attribute_dim = data.class_attributes.shape
    return estimate_need(
        candidates,
        images=images,
        feature_dim=feature_dim,
        attribute_dim=attribute_dim,
        classes=classes,
        executions=executions,
    )


def largest_settings(settings: Settings, space: Mapping[str, BaseDistribution]) -> Settings:
    """Return the settings with every searched size at its upper bound."""
    return settings.replace(**{name: _highest(space[name]) for name in _SIZES if name in space})


def _highest(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return max(distribution.choices, key=lambda choice: float(choice or 0))
    return distribution.high  # type: ignore[attr-defined]


def choose_share(
    nodes: Sequence[Mapping[str, float]],
    *,
    wanted: int,
    need: MemoryNeed | None,
    device_bytes: int | None,
) -> tuple[float, str]:
    """Return the fraction of a GPU that each trial gets by default, and why.

    Args:
        nodes: Ray resources of each node; some have GPUs.
        wanted: Trials that should run at once.
        need: GPU memory that a trial needs; None if unknown.
        device_bytes: Memory of the smallest GPU in bytes; None if unknown.
    """
    with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1]
    gpus = sum(int(node["GPU"]) for node in with_gpu)
    if wanted <= gpus:
        return 1.0, f"{gpus} GPUs are enough for {wanted} trials at once"
    if need is None:
        return 1.0, "the GPU memory that this model needs cannot be estimated"
    if device_bytes is None:
        return 1.0, (
            "the memory of the GPUs is unknown (none has started yet, or MIG splits them), and the "
            f"cluster's configuration does not give {MEMORY_RESOURCE}"
        )
    needed = f"a trial needs {need}, and the smallest GPU has {device_bytes / GIB:.1f} GiB"
    bounds = {
        "GPU memory": device_bytes // need.total,
        "the CPU cores per GPU": int(min(n.get("CPU", 0) // int(n["GPU"]) for n in with_gpu)),
        "the number of trials at once": -(-wanted // gpus),
        "the default maximum": MOST_TRIALS_PER_GPU,
    }
    if bounds["GPU memory"] < 1:
        return 1.0, f"{needed}: it may not fit"
    reason = min(bounds, key=lambda name: bounds[name])
    trials = max(1, bounds[reason])
    return gpu_fraction(trials), f"{needed}; {trials} per GPU, limited by {reason}"


def describe_request(gpus: float, need: MemoryNeed | None, device_bytes: int | None) -> str:
    """Describe a share that the user asked for, with a warning if it is too small.

    Args:
        gpus: GPUs for each trial.
        need: GPU memory that a trial needs; None if unknown.
        device_bytes: Memory of the smallest GPU in bytes; None if unknown.
    """
    if gpus >= 1 or need is None or device_bytes is None or need.total <= gpus * device_bytes:
        return "as requested"
    return (
        f"as requested, but a trial needs {need} and {gpus:g} of the smallest GPU is "
        f"{gpus * device_bytes / GIB:.1f} GiB: it may not fit"
    )


def gpu_fraction(trials: int) -> float:
    """Return the fraction of a GPU for each of this many trials, in Ray's units of 1/10,000."""
    return (10_000 // trials) / 10_000
