"""How tensors on the CPU are computed: how many threads, and whose matrix products."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

_CPUINFO = Path("/proc/cpuinfo")


def use_threads(count: int) -> None:
    """Compute with ``count`` threads in this process, by the faster library for matrix products.

    PyTorch multiplies single precision by MKL, which on AMD's processors takes a path of less than
    half the speed of the other library it comes with, oneDNN (docs/performance.md). PyTorch hands
    products to oneDNN if it may round their factors to bfloat16, which oneDNN does only where AMX
    is. No AMD processor has that, so single precision it stays.
    """
    torch.set_num_threads(count)
    if is_amd() and torch.backends.mkldnn.is_available():
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]


@cache
def is_amd() -> bool:
    """Tell whether this machine's processor is AMD's and without AMX."""
    try:
        described = _CPUINFO.read_text()
    except OSError:
        return False  # not Linux: as PyTorch would have it
    return "AuthenticAMD" in described and "amx_tile" not in described
