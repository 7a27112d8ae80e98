"""Wait for work on the cluster with a sign of life."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayTaskError

from mianet.errors import InputError
from tuning.compute.cluster import Share
from tuning.compute.gpu_limit import held
from tuning.compute.terminal import REFRESH_SECONDS, StatusLine, bar, time_words

HEARTBEAT_SECONDS = 10.0
"""The terminal is never quiet for longer than this."""


@dataclass(frozen=True)
class Timed:
    """What a task returned, and how long it was at work.

    Attributes:
        result: What it returned.
        seconds: From its beginning to its end on the worker.
    """

    result: Any
    seconds: float


class Tasks:
    """Tasks of one kind on the cluster, started together and awaited one by one.

    As a context manager it takes its status line away at the end.

    Args:
        title: What the status line calls them.
        share: What each of them gets.
    """

    def __init__(self, title: str, share: Share) -> None:
        self._title = title
        self._task = ray.remote(_timed).options(
            num_cpus=share.cpus, num_gpus=share.gpus, max_retries=2
        )
        self._gpus = share.gpus
        self._line = StatusLine()
        self._started = time.monotonic()
        self._all: list[ray.ObjectRef] = []

    def start(self, function: Callable[..., Any], *arguments: Any) -> ray.ObjectRef:
        """Have a function called on the cluster; return what to await."""
        self._all.append(self._task.remote(self._gpus, function, *arguments))
        return self._all[-1]

    def awaited(self, reference: ray.ObjectRef, what: str) -> Timed:
        """Return what a task returned; tell a person now and then that it is at work.

        Args:
            reference: What ``start`` returned.
            what: What the person is told of it.
        """
        since = time.monotonic()
        pause = REFRESH_SECONDS if self._line.live else HEARTBEAT_SECONDS
        while not ray.wait([reference], timeout=pause)[0]:
            if self._line.live:
                self._line.show(self._status(what))
            else:
                self._line.say(f"{what}: training, {time.monotonic() - since:.0f} s")
        timed: Timed = result_of(reference)
        return timed

    def say(self, line: str) -> None:
        """Print a line."""
        self._line.say(line)

    def __enter__(self) -> Self:
        """Return the tasks."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the status line away."""
        self._line.clear()

    def _status(self, what: str) -> str:
        done = len(ray.wait(self._all, num_returns=len(self._all), timeout=0)[0])
        elapsed = time.monotonic() - self._started
        remaining = elapsed * (len(self._all) - done) / done if done else None
        return (
            f"{bar(done, len(self._all))} {self._title} {done}/{len(self._all)} · {what} · "
            f"{time_words(elapsed, remaining)}"
        )


def result_of(reference: ray.ObjectRef) -> Any:
    """Return what a task returned; what a user can mend is raised as it was there, in one line.

    Raises:
        InputError: The task raised it.
    """
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise


def _timed(gpus: float, function: Callable[..., Any], *arguments: Any) -> Timed:
    started = time.monotonic()
    result = held(gpus, function, *arguments)
    return Timed(result, time.monotonic() - started)
