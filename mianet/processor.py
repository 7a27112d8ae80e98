"""How tensors on the CPU are computed: how many threads, and whose matrix products."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

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


def product(
    left: Float[Tensor, "executions rows inner"],
    right: Float[Tensor, "executions inner columns"],
    out: Float[Tensor, "executions rows columns"] | None = None,
) -> Float[Tensor, "executions rows columns"]:
    """Return the product of each execution's two matrices, written to ``out`` if that is given.

    That of a single execution is a plain one: on a CPU, a batch of one whose right factor is
    transposed takes five times as long.
    """
    if len(left) > 1:
        return torch.bmm(left, right, out=out)
    return torch.mm(left[0], right[0], out=None if out is None else out[0])[None]


@cache
def is_amd() -> bool:
    """Tell whether this machine's processor is AMD's and without AMX."""
    try:
        described = _CPUINFO.read_text()
    except OSError:
        return False  # not Linux: as PyTorch would have it
    return "AuthenticAMD" in described and "amx_tile" not in described
