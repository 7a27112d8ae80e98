"""Run functions on the cluster and show their progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import ray
import torch
from ray.exceptions import RayTaskError

from mianet.errors import DivergedError, InputError
from mianet.processor import use_threads
from tuning.compute.cluster import Share
from tuning.compute.display import StatusLine, time_words
from tuning.compute.gpu_limit import exceeded, limit_to_share

_REFRESH_SECONDS = 0.5


class TimedResult(NamedTuple):
    """What a task returned, or its ``DivergedError``, and its seconds on the worker."""

    result: Any
    seconds: float


class Tasks:
    """Tasks of one kind on the cluster, started together and awaited one by one.

    Args:
        title: What the display calls them.
        share: What each of them gets.
        display: Where their progress is shown.
    """

    def __init__(self, title: str, share: Share, display: StatusLine) -> None:
        self._title = title
        self._task = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=2)(run_timed)
        self._share = share
        self._display = display
        self._started = time.monotonic()
        self._all: list[ray.ObjectRef] = []

    def start(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> ray.ObjectRef:
        """Call a function on the cluster; return a reference to await."""
        self._all.append(self._task.remote(self._share, function, *arguments, **options))
        return self._all[-1]

    def wait_for(self, reference: ray.ObjectRef, what: str) -> TimedResult:
        """Return the result of a task of ``start``; until then show progress and ``what`` it is."""
        while not ray.wait([reference], timeout=_REFRESH_SECONDS)[0]:
            self._show(what)
        awaited: TimedResult = result_of(reference)
        return awaited

    def _show(self, what: str) -> None:
        total = len(self._all)
        done = len(ray.wait(self._all, num_returns=total, timeout=0)[0])
        elapsed = time.monotonic() - self._started
        times = time_words(elapsed, elapsed * (total - done) / done if done else None)
        self._display.show(done, total, f"{self._title} {done}/{total} · {what} · {times}")


def result_of(reference: ray.ObjectRef) -> Any:
    """Return what a task returned; errors other than InputError keep Ray's traceback."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise


def run_timed(
    share: Share, function: Callable[..., Any], *arguments: Any, **options: Any
) -> TimedResult:
    """Call a function on a worker; raise InputError if it exceeds its share of a GPU."""
    started = time.monotonic()
    use_threads(share.threads)
    limit_to_share(share.gpus)
    try:
        result = function(*arguments, **options)
    except DivergedError as error:
        result = error
    except torch.OutOfMemoryError:
        if reason := exceeded(share.gpus):
            raise InputError(reason) from None
        raise
    return TimedResult(result, time.monotonic() - started)
