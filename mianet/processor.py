"""How tensors are computed: the threads, the matrix library and its precision."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Left: TypeAlias = Float[Tensor, "executions rows inner"]
Right: TypeAlias = Float[Tensor, "executions inner columns"]
Product: TypeAlias = Float[Tensor, "executions rows columns"]

_CPUINFO, _STATUS = Path("/proc/cpuinfo"), Path("/proc/self/status")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of mallopt(3)
_MAX_MMAP_THRESHOLD = 32 * 2**20  # the most that mallopt takes for _MMAP_THRESHOLD


def use_threads(count: int) -> None:
    """Compute with ``count`` threads in this process, and fast.

    Freed memory is kept for reuse: a step frees and allocates the same megabytes again and again,
    and each time the C library would return them and have them zeroed again. ``release_memory``
    returns them between trainings.

    PyTorch multiplies single precision with MKL, which on AMD processors is less than half as fast
    as its other library, oneDNN (docs/performance.md). Products go to oneDNN if it may round their
    factors to bfloat16, which it does only with AMX. No AMD processor has AMX, so the products stay
    in single precision.
    """
    torch.set_num_threads(count)
    _keep_freed_memory()
    if is_amd() and torch.backends.mkldnn.is_available():
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]


def product(left: Left, right: Right, out: Product | None = None) -> Product:
    """Return the product of each execution's two matrices, written to ``out`` if given.

    For a single execution it is an unbatched one: on a CPU, a batch of one whose right factor is
    transposed takes five times as long.

    If a factor is in bfloat16, the other is rounded to it too. Sums and the result are in single
    precision; on a CPU the result has also been rounded to bfloat16.

    Args:
        left: The left factors.
        right: The right factors.
        out: Where to write the products; by default new memory.
    """
    if torch.bfloat16 not in (left.dtype, right.dtype):
        return _product(left, right, out)
    left, right = left.bfloat16(), right.bfloat16()
    if left.is_cuda:
        return torch.bmm(left, right, out_dtype=torch.float32, out=out)
    rounded = _product(left, right, None)
    return rounded.float() if out is None else out.copy_(rounded)


def add_product(into: Product, left: Left, right: Right, scale: float | int = 1) -> None:
    """Add ``scale`` times the ``product`` to ``into``.

    Args:
        into: The tensor to add to, in place.
        left: The left factors.
        right: The right factors.
        scale: Factor of the product.
    """
    if torch.bfloat16 in (left.dtype, right.dtype):
        left, right = left.bfloat16(), right.bfloat16()
        if left.is_cuda:
            torch.baddbmm(into, left, right, out_dtype=torch.float32, alpha=scale, out=into)
        else:
            into.add_(product(left, right), alpha=scale)
    else:
        into.baddbmm_(left, right, alpha=scale)


def affine(
    rows: Left, matrix: Right, bias: Float[Tensor, "executions columns"], out: Product | None = None
) -> Product:
    """Return the ``product`` of rows and matrix plus the bias, written to ``out`` if given.

    Args:
        rows: The left factors.
        matrix: The right factors.
        bias: Added to each row.
        out: Where to write the result; by default new memory.
    """
    if torch.bfloat16 in (rows.dtype, matrix.dtype):
        rows, matrix = rows.bfloat16(), matrix.bfloat16()
        if not rows.is_cuda:
            return product(rows, matrix, out).add_(bias[:, None])
        return torch.baddbmm(bias[:, None], rows, matrix, out_dtype=torch.float32, out=out)
    return torch.baddbmm(bias[:, None], rows, matrix, out=out)


@contextmanager
def tensor_float(wanted: bool) -> Iterator[None]:
    """Let a GPU's products round factors to TensorFloat-32 (10 bits of mantissa), or not."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32" if wanted else "ieee"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def _product(left: Tensor, right: Tensor, out: Tensor | None) -> Tensor:
    if len(left) > 1:
        return torch.bmm(left, right, out=out)
    return torch.mm(left[0], right[0], out=None if out is None else out[0])[None]


def release_memory() -> int:
    """Return freed memory to the system; return the bytes that this process keeps, 0 if unknown.

    oneDNN keeps the code that it generates for each shape of a product, up to a megabyte, as long
    as the process lives. Trainings of many latent dimensions leave gigabytes of it.
    """
    if library := _gnu_c_library():
        library.malloc_trim(0)
    try:
        (anonymous,) = re.findall(r"RssAnon:\s*(\d+) kB", _STATUS.read_text())
    except (OSError, ValueError):
        return 0  # not Linux
    return 1024 * int(anonymous)


@cache
def _keep_freed_memory() -> None:
    if library := _gnu_c_library():
        library.mallopt(_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD)
        library.mallopt(_TRIM_THRESHOLD, 2**30)


@cache
def _gnu_c_library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
    except OSError:
        return None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


@cache
def is_amd() -> bool:
    """Tell whether this machine has an AMD processor without AMX."""
    try:
        described = _CPUINFO.read_text()
    except OSError:
        return False  # not Linux: keep PyTorch's default
    return "AuthenticAMD" in described and "amx_tile" not in described
