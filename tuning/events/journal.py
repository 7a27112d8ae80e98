"""Keep records on disk in the order they were made: a text file, one JSON object a line.

One process at a time writes a journal. What ``write`` has returned from survives the death of the
process, what ``sync`` has returned from survives the machine's. A line that was cut short is
dropped when the journal is opened; a write that fails leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from mianet.errors import InputError

JOURNAL_FOLDER = "record"
"""What the journal of a study is called in its folder; those of final trainings begin like it."""

RECORDS_FILE = "journal.jsonl"
_ABOUT_FILE = "about.json"
_DELIVERED_FILE = "delivered"
_LOCK_FILE = "lock"


def undelivered_in(folder: Path) -> int:
    """Return how many records of a journal wait for delivery, without opening it."""
    try:
        records = (folder / RECORDS_FILE).read_bytes().count(b"\n")
    except OSError:
        return 0
    return max(0, records - _marked(folder))


def _marked(folder: Path) -> int:
    """Return how many records are marked as delivered; without a mark they are sent again."""
    with contextlib.suppress(OSError, ValueError):
        return int((folder / _DELIVERED_FILE).read_text())
    return 0


class JournalBusyError(InputError):
    """Another process records to the journal."""


class Journal:
    """A journal that this process has for itself.

    Args:
        folder: Where it is, or is made.

    Attributes:
        folder: Where it is.
        records: What was in it when it was opened.
        delivered: How many of the records were delivered by then.

    Raises:
        JournalBusyError: Another process has it.
        InputError: It cannot be written, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = self._mark = -1
        self._lock = filelock.FileLock(folder / _LOCK_FILE, timeout=0)
        try:
            with self._writing():
                folder.mkdir(parents=True, exist_ok=True)
                self._lock.acquire()
                self._file = os.open(folder / RECORDS_FILE, os.O_RDWR | os.O_CREAT, 0o644)
                self._mark = os.open(folder / _DELIVERED_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        except filelock.Timeout as error:
            raise JournalBusyError(
                f"only one process at a time can record to {folder}, but another one does; wait "
                "for it, or end it"
            ) from error
        self.records = self._read()
        self.delivered = min(_marked(folder), len(self.records))
        self._dirty = False

    @property
    def about(self) -> dict[str, Any]:
        """Return what the journal says of itself; nothing where it says nothing."""
        with contextlib.suppress(OSError, ValueError):
            about = json.loads((self.folder / _ABOUT_FILE).read_text())
            return about if isinstance(about, dict) else {}
        return {}

    def describe(self, about: Mapping[str, Any]) -> None:
        """Replace what the journal says of itself.

        Raises:
            InputError: It cannot be written.
        """
        if self.about == about:
            return
        with self._writing():
            new = self.folder / f"{_ABOUT_FILE}.new"
            new.write_text(json.dumps(about, indent=1) + "\n")
            new.replace(self.folder / _ABOUT_FILE)

    def begin(self, about: Mapping[str, Any], first: Mapping[str, Any]) -> None:
        """Describe a new journal and write its first record.

        Raises:
            InputError: It cannot be written.
        """
        self.describe(about)
        with self._writing():
            self.write([first])
            self.sync()

    def give_up(self) -> None:
        """Close it, and delete it where it was new."""
        if self.records:
            self.close()
        else:
            self.discard()

    def discard(self) -> None:
        """Close it and delete it."""
        self.close()
        for name in (RECORDS_FILE, _DELIVERED_FILE, _ABOUT_FILE, f"{_ABOUT_FILE}.new", _LOCK_FILE):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def write(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append records, all or none of them.

        Raises:
            OSError: The disk is full or broken.
        """
        data = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self._size + written)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)
        self._dirty = True

    def sync(self) -> None:
        """Wait until the disk has what was written.

        Raises:
            OSError: The disk is full or broken.
        """
        if self._dirty and self._file >= 0:
            self._dirty = False  # before: what is written meanwhile is for the next time
            os.fsync(self._file)

    def mark_delivered(self, count: int) -> None:
        """Note that the first records have been delivered; losing the note does no harm."""
        self.delivered = count
        with contextlib.suppress(OSError):  # also where it has been closed
            os.pwrite(self._mark, f"{count:020d}\n".encode(), 0)

    def close(self) -> None:
        """Let other processes have it; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            os.close(self._mark)
            self._file = self._mark = -1
            self._lock.release()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except filelock.Timeout:  # an OSError, too
            raise
        except OSError as error:
            raise InputError(
                f"the journal of the record must be in a folder that can be written, but "
                f"{self.folder} is not ({error.strerror}); make room, or give another --storage"
            ) from error

    def _read(self) -> list[dict[str, Any]]:
        path = self.folder / RECORDS_FILE
        lines = path.read_bytes().splitlines(keepends=True)
        records: list[dict[str, Any]] = []
        self._size = 0
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                record = None
            if isinstance(record, dict):
                records.append(record)
                self._size += len(line)
            elif number < len(lines):
                self.close()
                raise InputError(
                    f"every line of {path} must be a JSON object, but line {number} of "
                    f"{len(lines)} is not; delete it, and what depends on it is reported"
                )
        os.ftruncate(self._file, self._size)
        return records
