"""The event log of a study, a final training or a confirmation: what happened, in order, on disk.

Each event is written before anything acts on it, so the successor of a killed process knows what
that one knew.
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
CURSOR_FILE = "mlflow.cursor"  # how much of the log MLflow has: a number of bytes, as text
_LOCK_FILE = "lock"

RETRY_SECONDS = 1.0  # pause before a full disk is tried again

_logger = logging.getLogger(__name__)


class Appendable(Protocol):
    """Something that events are appended to."""

    def append(self, event: Event) -> None:
        """Append an event."""


class LogBusyError(InputError):
    """Another process holds the log."""


class EventLog:
    """A log that only this process uses; open it with ``open_log``.

    Proposals, ends and other rare events are on disk when ``append`` returns; epochs are after the
    next of those, or the next ``sync``. While the disk cannot be written, events wait in memory,
    and are written as soon as there is room.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / LOG_FILE
        self.state = State()
        self.problem = ""  # why the disk cannot be written now
        self._lock, self._syncing = threading.Lock(), threading.Lock()
        self._lines: list[bytes] = []  # those that may not be on disk yet, …
        self._written = 0  # … of which this many are in the file
        self._file = -1
        self._retry_at = 0.0
        # Bytes: when it was opened, in the file now, safely on disk.
        self.found = self._size = self.end = self._fold()
        if read_cursor(folder) > self.found:  # an older copy of the log was restored
            write_cursor(folder, self.found)

    @property
    def unsaved(self) -> list[Event]:
        """Return the events that are not on disk."""
        with self._lock:
            return [decoded(json.loads(line)) for line in self._lines]

    def begin(self, opening: Opened) -> None:
        """Append this process's opening; raise an ``InputError`` if the disk is full."""
        self.append(opening)
        if self.problem:
            raise _unwritable(self.folder, self.problem)

    def append(self, event: Event) -> None:
        """Append an event; one that cannot follow raises a ``ValueError`` and changes nothing."""
        text = json.dumps(encoded(event), separators=(",", ":"))
        with self._lock:
            self.state.apply(event)  # first, so that no line is written that cannot be read again
            self._lines.append(f"{text}\n".encode())
            if not self.problem or time.monotonic() >= self._retry_at:
                self._write()
        if not isinstance(event, EpochDone) and not self.problem:
            self.sync()

    def sync(self) -> None:
        """Wait until everything is on disk, if it can be written."""
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
        """Yield the events on disk from an offset on, each with the offset where it ends."""
        if start < self.end:
            for event, end in read_events(self.path, start):
                if end > self.end:
                    return
                yield event, end

    def discard(self) -> None:
        """Delete the log, and its folder if nothing else is in it."""
        self._lines, self._written, self._size, self.end = [], 0, 0, 0
        self.close()
        for name in (LOG_FILE, CURSOR_FILE, _LOCK_FILE):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def close(self) -> None:
        """Close the file; warn if not everything could be written."""
        self.sync()
        if self._lines:
            _logger.warning(
                "%d events could not be saved to %s (%s); the work that they record will be "
                "repeated when the study resumes",
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
            _logger.warning("%s can be written again; nothing was lost", self.path)
        self.problem = ""

    def _is_in_place(self) -> bool:
        """Say whether the open file is still the one in the folder."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(self.path.stat(), os.fstat(self._file))
        return False

    def _put_back(self) -> None:
        """Restore the file after it was deleted or replaced while open."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".new").open("w+b", buffering=0) as new:
            while (place := new.tell()) < self._size:
                new.write(os.pread(self._file, min(self._size - place, 2**20), place))
            os.fsync(new)
            Path(new.name).replace(self.path)
            os.dup2(new.fileno(), self._file)
        _logger.warning(
            "%s was deleted or replaced while it was in use; it has been restored, and nothing was "
            "lost",
            self.path,
        )

    def _note(self, error: OSError) -> None:
        """Cut off what may be half a line, and warn once that events are waiting."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self._size)
        if not self.problem and self.end > self.found:  # else nothing has started yet
            _logger.warning(
                "%s cannot be written (%s); the search continues and keeps its events in memory; "
                "free some disk space",
                self.path,
                error.strerror,
            )
        self.problem = error.strerror or str(error)
        self._retry_at = time.monotonic() + RETRY_SECONDS

    def _fold(self) -> int:
        """Apply the file's events, cutting off a last line that a crash tore; return its size."""
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
def open_log(folder: Path) -> Iterator[EventLog]:
    """Open the log of a folder, creating the folder if needed, for this process only.

    The lock is released when the process ends, however it ends.

    Raises:
        LogBusyError: Another process holds the log.
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
    """Yield the events of a log, each with the offset in the file where it ends.

    A last line that a crash cut short is left out.

    Raises:
        InputError: A line other than the last is damaged, or of another version.
    """
    with path.open("rb") as file:
        file.seek(start)
        end = start
        for number, raw in enumerate(file, 1):
            try:
                if not raw.endswith(b"\n"):
                    raise ValueError("it is truncated")  # noqa: TRY301
                event = decoded(json.loads(raw))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                is_whole = raw.endswith(b"\n") and b'"format"' in raw
                if is_whole or any(rest.strip(b"\0\n") for rest in file):
                    raise _damaged(path, number, str(error)) from error
                return
            end += len(raw)
            yield event, end


def count_waiting(folder: Path) -> int:
    """Return how many events of a folder's log wait for MLflow, without opening it."""
    try:
        events = read_events(folder / LOG_FILE, read_cursor(folder))
        return sum(not isinstance(event, Completed) for event, _ in events)
    except OSError:
        return 0
    except InputError:
        return 1  # or more: opening it will say what is wrong


def read_cursor(folder: Path) -> int:
    """Return the offset up to which MLflow has a folder's log; 0, to send it again, if lost."""
    with contextlib.suppress(OSError, ValueError):
        return int((folder / CURSOR_FILE).read_text())
    return 0


def write_cursor(folder: Path, end: int) -> None:
    """Note the offset up to which MLflow has a folder's log; losing the note does no harm."""
    with contextlib.suppress(OSError):
        (folder / CURSOR_FILE).write_text(f"{end}\n")


def _lock(file: IO[str], folder: Path) -> None:
    """Lock a file, and write into it who holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise LogBusyError(
            f"a study must be searched by one process at a time, but {folder.name} is being "
            f"searched by {file.read().strip() or 'another one'}; wait for it, or stop it"
        ) from None
    except OSError as error:
        raise _unwritable(folder, f"it cannot be locked: {error.strerror}") from error
    with contextlib.suppress(OSError):  # a full disk
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"process {os.getpid()} on {platform.node()}\n".encode())


def _unwritable(folder: Path, reason: str | None) -> InputError:
    return InputError(
        f"the event log must be in a writable folder, but {folder} is not ({reason}); free some "
        "space, or give another --storage"
    )


def _damaged(path: Path, number: int, reason: str) -> InputError:
    return InputError(
        f"an event log must have one event per line, but line {number} of {path} is not one "
        f"({reason}); restore a copy of the file, or start again under another name"
    )
