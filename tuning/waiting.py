"""Wait for work on the cluster with a sign of life."""

from __future__ import annotations

import time
from typing import Any

import ray

HEARTBEAT_SECONDS = 10.0
"""The terminal is never quiet for longer than this."""


def awaited(reference: ray.ObjectRef, what: str) -> Any:
    """Return a task's result; print a line now and then that says how long it has run."""
    started = time.monotonic()
    while not ray.wait([reference], timeout=HEARTBEAT_SECONDS)[0]:
        print(f"{what}: training, {time.monotonic() - started:.0f} s", flush=True)
    return ray.get(reference)
