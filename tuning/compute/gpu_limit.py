"""Limit a training to its share of a GPU's memory: Ray counts shares, but enforces none."""

from __future__ import annotations

import torch

GIB = 2**30
CONTEXT_BYTES = GIB * 3 // 4
"""Memory that CUDA itself takes in every process; assumed, since it differs by device."""


def limit_to_share(gpus: float) -> None:
    """Limit what this process can allocate to its share of the first visible GPU.

    The share includes what CUDA itself takes. A process with a whole GPU can allocate all of it,
    even if it was limited before.
    """
    if gpus:  # that Ray has assigned to the process
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(_limit(gpus, total) / total)


def exceeded(gpus: float) -> str:
    """Return why an allocation failed, if the process needed more than its share; else "".

    If the process had not used up its share, other processes had taken the memory, and a retry may
    help. The same holds on a whole GPU, except that CUDA itself may take up to twice what is
    assumed.
    """
    if not gpus:
        return ""
    free, total = torch.cuda.mem_get_info()
    limit, reserved = _limit(gpus, total), torch.cuda.memory_reserved()
    if free < limit - reserved - (2 * CONTEXT_BYTES if gpus >= 1 else 0):
        return ""
    if gpus >= 1:
        return (
            f"a training must fit on a GPU, but needs more than its {total / GIB:.1f} GiB; lower "
            "--executions, or search a smaller model"
        )
    return (
        f"a training must fit in its share of the GPU, but needs more than {gpus:g} of "
        f"{total / GIB:.1f} GiB ({limit / GIB:.1f} GiB for tensors); increase --gpus-per-trial"
    )


def _limit(gpus: float, total: int) -> int:
    """Return the bytes that tensors may take."""
    return total if gpus >= 1 else max(1, int(gpus * total) - CONTEXT_BYTES)
