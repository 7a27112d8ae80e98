"""Keep a receiver up to date with a log: send what follows from its events as they arrive.

Nothing is sent before it is on disk, so a process that resumes the log knows of everything that the
receiver may have.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import islice
from typing import Self

from tuning.events.event import Event
from tuning.events.log import EventLog

INTERVAL_SECONDS = 1.0  # time between reads of the log: what arrives meanwhile is sent together

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0
LONGEST_CLOSING_PAUSE_SECONDS = 1.0
"""Pauses after a failure double from the first to the longest."""

CLOSE_SECONDS = 60.0

MAX_AT_ONCE = 100  # events read and sent together: at most this many are resent after a kill

_logger = logging.getLogger(__name__)


class UnreachableError(Exception):
    """A receiver did not accept something now, but may do so later."""


def retry_until_done(step: Callable[[], bool], seconds: float) -> str:
    """Repeat a step until nothing is left; return why it kept failing, or an empty string.

    Args:
        step: Returns whether nothing is left; raises ``UnreachableError`` to be retried.
        seconds: How long it may fail without a success.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            if step():
                return ""
            deadline = time.monotonic() + seconds
        except UnreachableError as error:
            if time.monotonic() > deadline:
                return str(error)
            time.sleep(LONGEST_CLOSING_PAUSE_SECONDS)


class Projection(ABC):
    """What follows from a log and is stored elsewhere."""

    receiver: str  # what messages call the place where it is stored

    @property
    @abstractmethod
    def cursor(self) -> int:
        """Return the offset in the log up to which the receiver has everything."""

    @abstractmethod
    def mark(self, end: int) -> None:
        """Note the offset up to which the receiver has everything."""

    @abstractmethod
    def learn(self, event: Event) -> None:
        """Take note of an event that the receiver already has."""

    @abstractmethod
    def handle(self, event: Event) -> None:
        """Work out what to send to the receiver for the next event."""

    @abstractmethod
    def end(self, error: Exception) -> None:
        """Say that nothing more is sent, because of a permanent error."""

    def flush(self) -> None:  # noqa: B027
        """Send what ``take`` worked out; raise ``UnreachableError`` if not all was accepted."""

    def take_unsaved(self, events: Sequence[Event]) -> None:  # noqa: B027
        """Work out what to send for events that never reached the disk: by default, nothing."""

    def abandon(self) -> None:  # noqa: B027
        """Send no more: time is up."""


class Projector:
    """Follows a log for a projection: step by step, or on a thread as a context manager."""

    def __init__(self, log: EventLog, projection: Projection) -> None:
        self.reason = ""  # why the last attempt failed
        self.end = 0  # the offset up to which the receiver has the log
        self.has_all = False  # whether, after closing, the receiver has everything
        self._log = log
        self._projection = projection
        self._read = 0
        self._beyond = False
        self._failures = 0
        self._closing, self._abandoned = threading.Event(), threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"to the {projection.receiver}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close(CLOSE_SECONDS)

    def close(self, seconds: float, *, once: bool = False) -> None:
        """Send what is left and end the thread.

        Args:
            seconds: How long to wait, repeated while the receiver makes progress.
            once: Wait only once.
        """
        self._closing.set()
        while True:
            reached = self.end
            self._thread.join(seconds)
            if once or self.end == reached or not self._thread.is_alive():
                break
            _logger.warning(
                "the %s has %.0f%% of what was recorded; the rest is being sent",
                self._projection.receiver,
                100 * self.end / self._log.end,
            )
        self._abandoned.set()
        self._projection.abandon()

    def step(self) -> bool:
        """Send the next part, or raise as ``flush`` does; return whether nothing is left."""
        self._log.sync()
        self._send()
        if self._beyond:
            return True
        for event, end in list(islice(self._log.read(self._read), MAX_AT_ONCE)):
            tell = self._projection.learn if end <= self._cursor else self._projection.handle
            tell(event)
            self._read = end
        self._send()
        return self._read >= self._log.end

    @cached_property
    def _cursor(self) -> int:
        """Return the offset up to which the receiver had everything at the start."""
        return self._projection.cursor

    def _send(self) -> None:
        self._projection.flush()
        if self._read > max(self.end, self._cursor):
            self._projection.mark(self._read)
        self.end = self._read

    def _send_unsaved(self) -> None:
        """Send what never reached the disk: better sent than lost."""
        unsaved = [] if self._beyond else self._log.unsaved
        if unsaved:
            self._beyond = True
            self._projection.take_unsaved(unsaved)
        self._projection.flush()

    def _run(self) -> None:
        try:
            while not self._abandoned.is_set() and not self.has_all:
                self._attempt()
        except Exception as error:
            self.reason = self.reason or str(error) or type(error).__name__
            self._projection.end(error)

    def _attempt(self) -> None:
        """Make a step, then pause if nothing is left or the receiver is unreachable."""
        is_last = self._closing.is_set()  # read first: earlier events are then included
        try:
            done = self.step()
            if done and is_last:
                self._send_unsaved()
        except UnreachableError as error:
            self._fail(str(error))
            return
        if self._failures > 1:
            _logger.warning("the %s accepts records again", self._projection.receiver)
        self._failures, self.reason = 0, ""
        self.has_all = done and is_last
        if done:
            self._closing.wait(INTERVAL_SECONDS)

    def _fail(self, reason: str) -> None:
        self.reason = reason
        self._failures += 1
        if self._failures == 2:  # once is normal: another process may be writing
            _logger.warning(
                "the %s does not accept records (%s); they are kept and will be sent again",
                self._projection.receiver,
                reason,
            )
        pause = FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 10)
        if self._closing.is_set():
            time.sleep(min(pause, LONGEST_CLOSING_PAUSE_SECONDS))
        else:
            self._closing.wait(min(pause, LONGEST_PAUSE_SECONDS))
