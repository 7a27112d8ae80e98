"""Ctrl-C and SIGTERM during a search: the first stops it cleanly, the second ends it at once.

Ray's own handlers, which these replace, abort the process or know nothing about a study.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray.tune import Stopper

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_INTERRUPTED = 130
_STDERR = 2  # by its number: in a signal handler, the stream may be in use


class Interrupt(Stopper):
    """Whether the user or the machine wants the search to end; Ray Tune polls it between events."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return False: no single trial is stopped."""
        return False

    def stop_all(self) -> bool:
        return self.requested


@contextmanager
def watching(resume_command: str) -> Iterator[Interrupt]:
    """Note the first signal while the block runs; the second ends the process at once.

    The second also prints how to resume. It still works after the block, when little is left to do.
    """
    interrupt = Interrupt()

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupt.requested:
            os.write(_STDERR, f"\nstopped immediately; to continue: {resume_command}\n".encode())
            os._exit(_INTERRUPTED)
        interrupt.requested = True
        os.write(
            _STDERR, b"\nstopping, which takes a few seconds; interrupt again to stop immediately\n"
        )

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield interrupt
    finally:
        if not interrupt.requested:
            for number, handler in before.items():
                signal.signal(number, handler)
