"""Journal messages before they are delivered, so that none is lost with the process.

Nothing is sent that is not in the journal: then a later process that reads the journal knows of
everything that the store may have. While the journal cannot be written, messages wait in memory.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from tuning.events.journal import Journal
from tuning.tracking.delivery import Delivery, Outcome
from tuning.tracking.run_messages import RunMessage, encoded

_logger = logging.getLogger(__name__)

SYNC_SECONDS = 1.0
"""How often the disk is told to keep what was journalled, and a full one is tried again."""


class Outbox:
    """Takes messages for a delivery and journals them first.

    Args:
        journal: Where to; closed with the outbox.
        deliver: Starts the delivery, given what to call before a message is sent and what to call
            when all messages so far have been delivered, with their number.
        waiting: What the journal has of earlier processes that is not delivered.
    """

    def __init__(
        self,
        journal: Journal,
        deliver: Callable[[Callable[[], None], Callable[[int], None]], Delivery[RunMessage]],
        waiting: list[RunMessage],
    ) -> None:
        self._journal = journal
        self._delivered_before = journal.delivered
        self._lock = threading.Lock()
        self._unwritten: list[RunMessage] = []
        self._problem = ""
        self._closing = threading.Event()
        self._delivery = deliver(self._sync, self._mark)
        self._delivery.put(*waiting)
        self._thread = threading.Thread(target=self._keep_syncing, name="journal", daemon=True)
        self._thread.start()

    def put(self, *messages: RunMessage) -> None:
        """Accept messages; they survive the process from now on, unless the disk is full."""
        with self._lock:
            self._unwritten.extend(messages)
            if not self._problem:  # else the thread tries again, not every caller
                self._write()

    def close(self, deadline_seconds: float) -> Outcome[RunMessage]:
        """Deliver what is left, wait no longer than the deadline, and close the journal."""
        self._closing.set()
        self._thread.join(deadline_seconds)
        with self._lock:
            self._write()
            self._delivery.put(*self._unwritten)  # no room to the last: better sent than lost
        outcome = self._delivery.close(deadline_seconds)
        self._sync()
        self._journal.close()
        return outcome

    @property
    def problem(self) -> str:
        """Return why the journal cannot be written, or nothing."""
        return self._problem

    def _keep_syncing(self) -> None:
        while not self._closing.wait(SYNC_SECONDS):
            with self._lock:
                self._write()
            self._sync()

    def _write(self) -> None:
        if not self._unwritten:
            return
        try:
            self._journal.write(map(encoded, self._unwritten))
        except OSError as error:
            self._note(error)
            return
        if self._problem:
            _logger.warning("%s can be written again; nothing is lost", self._journal.folder)
        self._problem = ""
        self._delivery.put(*self._unwritten)
        self._unwritten = []

    def _sync(self) -> None:
        try:
            self._journal.sync()
        except OSError as error:
            self._note(error)

    def _note(self, error: OSError) -> None:
        if not self._problem:
            _logger.warning(
                "%s cannot be written (%s); the search goes on and what it records waits in "
                "memory: make room",
                self._journal.folder,
                error.strerror,
            )
        self._problem = error.strerror or str(error)

    def _mark(self, count: int) -> None:
        self._journal.mark_delivered(self._delivered_before + count)
