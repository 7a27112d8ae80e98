"""The event log of a study, a final training or a confirmation: what happened, in order, on disk.

It is written before anybody acts on an event, so whoever comes after a process that was killed
knows what that one knew.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from mianet.errors import InputError
from tuning.events.event import Completed, EpochDone, Event, Opened, decoded, encoded
from tuning.events.state import State

LOG_FILE = "events.jsonl"
CURSOR_FILE = "mlflow.cursor"  # up to where MLflow has the log: a number of bytes, as text
_LOCK_FILE = "lock"

RETRY_SECONDS = 1.0  # how often a disk that is full is tried again

_logger = logging.getLogger(__name__)


class Appendable(Protocol):
    """Something that events are appended to."""

    def append(self, event: Event) -> None:
        """Append an event."""


class LogBusyError(InputError):
    """Another process has the log."""


class EventLog:
    """A log that this process has for itself; use ``hold``.

    Proposals, ends and all else that is rare are on the disk when ``append`` returns; epochs are
    after the next of those, or the next ``sync``. While the disk takes nothing, events wait in
    memory and are written as soon as there is room.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / LOG_FILE
        self.state = State()
        self.problem = ""  # why the disk takes nothing now
        self._lock, self._syncing = threading.Lock(), threading.Lock()
        self._lines: list[bytes] = []  # those that may not be on the disk yet, …
        self._written = 0  # … of which so many are in the file
        self._file = -1
        self._retry_at = 0.0
        # Bytes: when it was opened, in the file now, on the disk for good.
        self.found = self._size = self.end = self._fold()
        if cursor_in(folder) > self.found:  # an older copy of the log was put back
            mark_cursor(folder, self.found)

    @property
    def unkept(self) -> list[Event]:
        """Return the events that the disk has not taken."""
        with self._lock:
            return [decoded(json.loads(line)) for line in self._lines]

    def begin(self, opening: Opened) -> None:
        """Append what this process does with the log; an ``InputError`` if the disk is full."""
        self.append(opening)
        if self.problem:
            raise _unwritable(self.folder, self.problem)

    def append(self, event: Event) -> None:
        """Append an event; one that cannot follow is a ``ValueError`` and changes nothing."""
        text = json.dumps(encoded(event), separators=(",", ":"))
        with self._lock:
            self.state.apply(event)  # first, so that no line is written that cannot be read again
            self._lines.append(f"{text}\n".encode())
            if not self.problem or time.monotonic() >= self._retry_at:
                self._write()
        if not isinstance(event, EpochDone) and not self.problem:
            self.sync()

    def sync(self) -> None:
        """Wait until the disk has everything, if it takes it."""
        with self._syncing:
            with self._lock:
                self._write()
                count, end = self._written, self._size
            if end == self.end:
                return
            try:
                os.fsync(self._file)
            except OSError as error:  # what was written since the last time may be gone
                with self._lock:
                    self._written, self._size = 0, self.end
                    self._note(error)
                return
            with self._lock:
                self.end = end
                del self._lines[:count]
                self._written -= count

    def read(self, start: int = 0) -> Iterator[tuple[Event, int]]:
        """Yield events on the disk from a place on, each with the place where it ends."""
        if start < self.end:
            for event, end in read_events(self.path, start):
                if end > self.end:
                    return
                yield event, end

    def discard(self) -> None:
        """Delete the log; the folder too, where nothing else is in it."""
        self._lines, self._written, self._size, self.end = [], 0, 0, 0
        self.close()
        for name in (LOG_FILE, CURSOR_FILE, _LOCK_FILE):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def close(self) -> None:
        """Close the file; say so where the disk has not taken everything."""
        self.sync()
        if self._lines:
            _logger.warning(
                "%d events could not be kept in %s (%s): what they are of is done again when the "
                "study goes on",
                len(self._lines),
                self.path,
                self.problem,
            )
            self._lines, self._written = [], 0
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self) -> None:
        data = b"".join(self._lines[self._written :])
        if not data:
            return
        try:
            if self._file < 0:
                self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            elif not self._is_in_place():
                self._put_back()
            done = 0
            while done < len(data):
                done += os.pwrite(self._file, data[done:], self._size + done)
        except OSError as error:
            self._note(error)
            return
        self._size += len(data)
        self._written = len(self._lines)
        if self.problem:
            _logger.warning("%s can be written again; nothing is lost", self.path)
        self.problem = ""

    def _is_in_place(self) -> bool:
        """Say whether the file that is written to is still the one of the folder."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(self.path.stat(), os.fstat(self._file))
        return False

    def _put_back(self) -> None:
        """Write the file again that somebody deleted or replaced while it was open."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".new").open("w+b", buffering=0) as new:
            while (place := new.tell()) < self._size:
                new.write(os.pread(self._file, min(self._size - place, 2**20), place))
            os.fsync(new)
            Path(new.name).replace(self.path)
            os.dup2(new.fileno(), self._file)
        _logger.warning(
            "%s was deleted or replaced while it was in use; it is there again, and nothing of it "
            "is lost",
            self.path,
        )

    def _note(self, error: OSError) -> None:
        """Take away what may be half a line, and say once that events wait."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self._size)
        if not self.problem and self.end > self.found:  # else nothing has begun yet
            _logger.warning(
                "%s cannot be written (%s); the search goes on and what it records waits in "
                "memory: make room",
                self.path,
                error.strerror,
            )
        self.problem = error.strerror or str(error)
        self._retry_at = time.monotonic() + RETRY_SECONDS

    def _fold(self) -> int:
        """Apply what is in the file, cut off a last line that a crash tore; return the size."""
        whole = 0
        if not self.path.exists():
            return whole
        for number, (event, end) in enumerate(read_events(self.path), 1):
            try:
                self.state.apply(event)
            except ValueError as error:
                raise _damaged(self.path, number, str(error)) from error
            whole = end
        with self.path.open("r+b") as file:
            file.truncate(whole)
            os.fsync(file)
        return whole


@contextmanager
def hold(folder: Path) -> Iterator[EventLog]:
    """Open the log of a folder, which is made if need be; no other process may have it.

    The lock goes with the process, however that ends.

    Raises:
        LogBusyError: Another process has it.
        InputError: It is damaged, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK_FILE).open("a+")
    except OSError as error:
        raise _unwritable(folder, error.strerror) from error
    with lock:
        _lock(lock, folder)
        try:
            log = EventLog(folder)
        except OSError as error:
            raise _unwritable(folder, error.strerror) from error
        with contextlib.closing(log):
            yield log


def read_events(path: Path, start: int = 0) -> Iterator[tuple[Event, int]]:
    """Yield the events of a log, each with the place in the file where it ends.

    A last line that a crash cut short is left out.

    Raises:
        InputError: A line that is not the last one is damaged, or of another version.
    """
    with path.open("rb") as file:
        file.seek(start)
        end = start
        for number, raw in enumerate(file, 1):
            try:
                if not raw.endswith(b"\n"):
                    raise ValueError("it is cut short")  # noqa: TRY301
                event = decoded(json.loads(raw))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                is_whole = raw.endswith(b"\n") and b'"format"' in raw
                if is_whole or any(rest.strip(b"\0\n") for rest in file):
                    raise _damaged(path, number, str(error)) from error
                return
            end += len(raw)
            yield event, end


def waiting_in(folder: Path) -> int:
    """Return how many events of a folder's log wait for MLflow, without opening it."""
    try:
        events = read_events(folder / LOG_FILE, cursor_in(folder))
        return sum(not isinstance(event, Completed) for event, _ in events)
    except OSError:
        return 0
    except InputError:
        return 1  # or more: whoever opens it is told what is wrong


def cursor_in(folder: Path) -> int:
    """Return up to where MLflow has the log of a folder; it is sent again where that is lost."""
    with contextlib.suppress(OSError, ValueError):
        return int((folder / CURSOR_FILE).read_text())
    return 0


def mark_cursor(folder: Path, end: int) -> None:
    """Note up to where MLflow has the log of a folder; losing the note does no harm."""
    with contextlib.suppress(OSError):
        (folder / CURSOR_FILE).write_text(f"{end}\n")


def _lock(file: IO[str], folder: Path) -> None:
    """Lock a file, and write into it whose lock it is."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise LogBusyError(
            f"a study must be searched by one process at a time, but {folder.name} is being "
            f"searched by {file.read().strip() or 'another one'}; wait for it, or end it"
        ) from None
    except OSError as error:
        raise _unwritable(folder, f"it cannot be locked: {error.strerror}") from error
    with contextlib.suppress(OSError):  # a full disk
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"process {os.getpid()} on {platform.node()}\n".encode())


def _unwritable(folder: Path, reason: str | None) -> InputError:
    return InputError(
        f"the event log must be in a folder that can be written, but {folder} is not ({reason}); "
        "make room, or give another --storage"
    )


def _damaged(path: Path, number: int, reason: str) -> InputError:
    return InputError(
        f"an event log must hold an event a line, but line {number} of {path} is none "
        f"({reason}); put back a copy of the file, or start again under another name"
    )
