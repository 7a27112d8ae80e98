"""What holds a training to its share of a GPU's memory: Ray counts shares, and enforces none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from mianet.errors import InputError

T = TypeVar("T")

GIB = 2**30
CONTEXT_BYTES = GIB * 3 // 4
"""What CUDA takes of every process beside its tensors; assumed, since it differs by device."""


def hold_to_share(gpus: float) -> None:
    """Let this process allocate no more than its share of the first visible GPU.

    What CUDA takes for itself is a part of the share. A process that has the GPU to itself gets all
    of it, also where it was held to a share before.

    Args:
        gpus: The GPUs that Ray has counted for it; 0 where it trains on the CPU.
    """
    if gpus:
        total = _total()
        torch.cuda.set_per_process_memory_fraction(_limit(gpus, total) / total)


def exceeded(gpus: float) -> str:
    """Say, after an allocation failed, how far the share was exceeded; empty if it was not.

    Where the device could have given all of the share and did not, others have taken it: then
    another try may help.
    """
    if not 0 < gpus < 1:
        return ""
    free, total = torch.cuda.mem_get_info()
    limit, held = _limit(gpus, total), torch.cuda.memory_reserved()
    if free < limit - held:
        return ""
    return (
        f"a training must fit its share of the GPU, but needs more than {gpus:g} of "
        f"{total / GIB:.1f} GiB, of which {limit / GIB:.1f} GiB are for tensors; give a larger "
        "--gpus-per-trial"
    )


def held(gpus: float, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function whose work must keep to its share.

    Raises:
        InputError: It needed more.
    """
    hold_to_share(gpus)
    try:
        return function(*arguments)
    except torch.OutOfMemoryError:
        if reason := exceeded(gpus):
            raise InputError(reason) from None
        raise


def _total() -> int:
    return int(torch.cuda.get_device_properties(0).total_memory)


def _limit(gpus: float, total: int) -> int:
    """Return the bytes that tensors may take."""
    return total if gpus >= 1 else max(1, int(gpus * total) - CONTEXT_BYTES)
