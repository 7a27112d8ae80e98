"""Deliver messages in order on a thread of their own, so that nobody waits for the receiver.

A message is taken off the list only when the receiver has accepted it. What fails for a passing
reason (no connection, a server that starts again) is sent again, after everything before it; what
the receiver refuses is kept as a problem and reported. So messages must be safe to send twice: a
request may have arrived although its answer was lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

_logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0
"""Time between two deliveries: what comes meanwhile travels together."""

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0
LONGEST_CLOSING_PAUSE_SECONDS = 1.0
"""Pauses after a failure double from the first to the longest."""

Message = TypeVar("Message")


@dataclass(frozen=True)
class Refusal(Generic[Message]):
    """A message that the receiver will not have, and why."""

    message: Message
    reason: str


@dataclass(frozen=True)
class Outcome(Generic[Message]):
    """What is left when a delivery is closed.

    Attributes:
        undelivered: Messages that never arrived, in order.
        refused: Messages that the receiver refused.
        reason: Why the last attempt failed, if it did.
    """

    undelivered: Sequence[Message]
    refused: Sequence[Refusal[Message]]
    reason: str


class Delivery(Generic[Message]):
    """One thread that sends what is put, in order, until it is closed.

    Args:
        send: Sends one message, or raises.
        compact: Joins messages that can travel together; keeps each run's order.
        passing: Whether an exception of ``send`` may be gone the next time.
        explain: Turns an exception into one line.
        delivered: Is told, from the thread, how many of the messages have been dealt with, in the
            order in which they were put.
        receiver: What log lines call the receiver.
    """

    def __init__(
        self,
        send: Callable[[Message], None],
        *,
        compact: Callable[[Sequence[Message]], list[Message]],
        passing: Callable[[Exception], bool],
        explain: Callable[[BaseException], str] = str,
        delivered: Callable[[int], None] = lambda count: None,
        receiver: str = "receiver",
    ) -> None:
        self._send = send
        self._compact = compact
        self._passing = passing
        self._explain = explain
        self._delivered = delivered
        self._receiver = receiver
        self._inbox: deque[Message] = deque()
        self._backlog: list[Message] = []
        self._refused: list[Refusal[Message]] = []
        self._taken = 0
        self._failures = 0
        self._reason = ""
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
        self._thread.start()

    def put(self, *messages: Message) -> None:
        """Accept messages at once; never blocks, never fails."""
        self._inbox.extend(messages)

    def close(self, deadline_seconds: float) -> Outcome[Message]:
        """Deliver what is left and end the thread; wait no longer than the deadline."""
        self._closing.set()
        self._thread.join(deadline_seconds)
        self._abandoned.set()
        return Outcome([*self._backlog, *self._inbox], tuple(self._refused), self._reason)

    def _run(self) -> None:
        try:
            while not self._abandoned.is_set():
                last_round = self._closing.is_set()  # read first: what was put before is in time
                self._take()
                self._deliver()
                if not self._backlog:
                    self._delivered(self._taken)
                if last_round and not self._backlog:
                    return
                self._pause()
        except Exception as error:
            # The caller finds what is left at close(); this line says so at once.
            self._reason = self._explain(error)
            _logger.exception("the delivery to the %s ended; nothing more is sent", self._receiver)

    def _take(self) -> None:
        taken = [self._inbox.popleft() for _ in range(len(self._inbox))]
        self._taken += len(taken)
        self._backlog = self._compact([*self._backlog, *taken])

    def _deliver(self) -> None:
        while self._backlog and not self._abandoned.is_set():
            try:
                self._send(self._backlog[0])
            except Exception as error:
                self._reason = self._explain(error)
                if self._passing(error):
                    self._note_failure()
                    return
                self._refused.append(Refusal(self._backlog[0], self._reason))
                _logger.warning("the %s refused a message: %s", self._receiver, self._reason)
            else:
                self._note_success()
            del self._backlog[0]

    def _note_failure(self) -> None:
        self._failures += 1
        if self._failures == 2:  # once is no news: a database that another one writes to
            _logger.warning(
                "the %s does not accept what is recorded (%s); it waits and is sent again",
                self._receiver,
                self._reason,
            )

    def _note_success(self) -> None:
        if self._failures > 1:
            _logger.warning("the %s accepts it again", self._receiver)
        self._failures = 0
        self._reason = ""

    def _pause(self) -> None:
        backoff = FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 10)
        if not self._closing.is_set():
            pause = min(backoff, LONGEST_PAUSE_SECONDS) if self._failures else INTERVAL_SECONDS
            self._closing.wait(pause)
        elif self._failures:
            time.sleep(min(backoff, LONGEST_CLOSING_PAUSE_SECONDS))
