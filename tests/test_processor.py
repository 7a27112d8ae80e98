"""Matrix products on the CPU: single precision, whoever computes them."""

import ctypes
import subprocess
import sys

import pytest

from mianet.processor import is_amd

PRODUCTS = """
import torch
from mianet.processor import use_threads

use_threads(1)
assert torch.get_num_threads() == 1
generator = torch.Generator().manual_seed(0)
for rows, inner, columns in ((150, 2048, 80), (150, 256, 2048), (2048, 182, 256), (32, 80, 30)):
    a = torch.randn(rows, inner, generator=generator)
    b = torch.randn(columns, inner, generator=generator)
    error = (a @ b.mT - a.double() @ b.double().mT).abs().max().item()
    print(error / inner**0.5)
print(torch.backends.mkldnn.matmul.fp32_precision)
"""


@pytest.fixture(scope="module")
def printed():
    ended = subprocess.run(
        [sys.executable, "-c", PRODUCTS], capture_output=True, text=True, timeout=120, check=True
    )
    return ended.stdout.split()


def test_products_are_as_exact_as_single_precision(printed):
    # A product of bfloat16 factors would be off by about 2**-9 for each root of a term.
    assert all(float(error) < 1e-5 for error in printed[:-1])


@pytest.mark.skipif(not is_amd(), reason="not one of AMD's processors")
def test_on_an_amd_processor_products_go_to_the_faster_library(printed):
    assert printed[-1] == "bf16"


FAULTS = """
import resource
import torch
from mianet.processor import use_threads

use_threads(1)
torch.ones(2**20).neg()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    torch.ones(2**20).neg()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not the GNU C library")
def test_freed_memory_is_not_returned_and_zeroed_anew():
    ended = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, timeout=120, check=True
    )
    assert int(ended.stdout) < 20_000  # 100 times 4 MB would be 100,000 pages of 4 KiB


KEPT = """
import torch
from mianet.processor import release_memory, use_threads

use_threads(1)
before = release_memory()
blocks = [torch.ones(2**20) for _ in range(50)]
assert release_memory() - before > 190e6
del blocks
print(release_memory() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not the GNU C library")
def test_freed_memory_is_returned_when_that_is_asked_for():
    ended = subprocess.run(
        [sys.executable, "-c", KEPT], capture_output=True, text=True, timeout=120, check=True
    )
    assert int(ended.stdout) < 20e6  # of 200 MB
