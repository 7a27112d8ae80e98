"""Steps captured as CUDA graphs, whose kernels a GPU runs without waiting for Python."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

StepFunction = Callable[..., None]
Capture = Callable[[Callable[[], None]], Callable[[], None]]
"""Records a function without running it; returns a function that replays the recording."""


class Captured:
    """A function of tensors that is captured once per set of shapes, and then replayed.

    The first call with some shapes runs the function directly, which also prepares what can only be
    prepared outside a capture: scratch memory, libraries, an optimiser's state. The second captures
    it. If that fails, the function is still run directly from then on, and a warning says so.

    A replay repeats what the device did, not what Python did. So the function must return nothing,
    must leave its results in tensors that stay in place, and must not branch on numbers that change
    from call to call.
    """

    def __init__(self, function: StepFunction, capture: Capture) -> None:
        self._function = function
        self._capture = capture
        self._prepared: set[tuple[torch.Size, ...]] = set()
        self._graphs: dict[tuple[torch.Size, ...], tuple[list[Tensor], Callable[[], None]]] = {}

    def __call__(self, *tensors: Tensor) -> None:
        """Run the function, or replay its capture for these shapes."""
        shapes = tuple(tensor.shape for tensor in tensors)
        if shapes not in self._prepared:
            self._prepared.add(shapes)
            self._function(*tensors)
            return
        if shapes not in self._graphs:
            self._graphs[shapes] = self._captured(tensors)
        inputs, replay = self._graphs[shapes]
        for input_, tensor in zip(inputs, tensors, strict=True):
            input_.copy_(tensor)
        replay()

    def _captured(self, tensors: tuple[Tensor, ...]) -> tuple[list[Tensor], Callable[[], None]]:
        inputs = [tensor.clone(memory_format=torch.contiguous_format) for tensor in tensors]
        call = partial(self._function, *inputs)

        try:
            with _no_garbage_collection():
                return inputs, self._capture(call)
        except RuntimeError as error:
            warnings.warn(
                f"training steps launch one kernel at a time, which is slower, since they could "
                f"not be captured as a CUDA graph: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
            return inputs, call


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Suspend garbage collection: freeing an old graph during a capture breaks it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def captured(function: StepFunction, device: torch.device) -> StepFunction:
    """Return the function, captured if the device supports it."""
    if device.type != "cuda":
        return function
    pool = torch.cuda.graph_pool_handle()  # graphs never replayed concurrently share memory

    def capture(call: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            call()
        return graph.replay

    return Captured(function, capture)
