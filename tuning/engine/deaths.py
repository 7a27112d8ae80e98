"""Workers that are killed for want of memory, which Ray Tune does not know of by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError


@contextmanager
def for_want_of_memory() -> Iterator[None]:
    """Have Ray Tune take such a worker for one that died, while the block runs.

    Ray kills workers on a node whose memory is nearly full, and says so by an error that is no
    ``RayActorError``. Ray Tune knows no other error of an actor: it ends the whole search.
    """
    original = RayActorManager._actor_task_failed

    def failed(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        original(manager, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = failed
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = original
