"""What happened in a study, in order, in a file that outlives every process.

A study has a folder in the storage; its ledger there holds a line for each proposal, each epoch and
each end of a trial. A line is written before anybody acts on it, so whoever comes after a driver
that was killed knows all that its sampler and its scheduler knew, in the same order. Proposals and
ends also survive the machine, with all that was written before them; an epoch that a machine's loss
takes along is computed again.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from mianet.errors import InputError

LEDGER_FILE = "ledger.jsonl"

_FORMAT = 1


@dataclass(frozen=True)
class Proposed:
    """A configuration was proposed.

    Attributes:
        number: From 0, in the order of the proposals.
        configuration: Searched hyperparameter → value.
        origin: ``paper``, or the sampler's name.
    """

    number: int
    configuration: Mapping[str, Any]
    origin: str


@dataclass(frozen=True)
class EpochDone:
    """A trial finished an epoch.

    Attributes:
        number: The trial's.
        epoch: From 1.
        score: Best of its curve so far, in what the study maximises.
        best_epoch: The epoch of that best.
        metrics: What is recorded of the epoch.
    """

    number: int
    epoch: int
    score: float
    best_epoch: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Ended:
    """A trial ended, for good.

    Attributes:
        number: The trial's.
        status: One of ``records.STATUSES``, but not ``interrupted``: such a trial can go on.
        reason: Why, for a person.
    """

    number: int
    status: str
    reason: str


Event: TypeAlias = Proposed | EpochDone | Ended

_EVENTS: Mapping[str, type[Event]] = {"proposed": Proposed, "epoch": EpochDone, "ended": Ended}
_NAMES = {kind: name for name, kind in _EVENTS.items()}


class Ledger:
    """The ledger of one study, held by one process at a time.

    Attributes:
        folder: The study's folder.
        settings: What the study was last searched with; empty where it was not begun.
        events: What had happened when the ledger was opened.
        seconds_before: Wall time that earlier processes spent on the study.
    """

    def __init__(self, folder: Path, lines: list[dict[str, Any]]) -> None:
        """Take over a locked folder; use ``hold``."""
        opened = [line for line in lines if line["event"] == "opened"]
        self.folder = folder
        self.settings: Mapping[str, Any] = opened[-1]["settings"] if opened else {}
        self.events = tuple(_event(line) for line in lines if line["event"] in _EVENTS)
        self.seconds_before = _seconds(lines)
        self.has_events = bool(self.events)
        work = [line["event"] for line in lines if line["event"] != "opened"]
        self._complete = work[-1:] == ["complete"]
        self._file = (folder / LEDGER_FILE).open("ab", buffering=0)

    @property
    def exists(self) -> bool:
        """Tell whether a study was begun here."""
        return bool(self.settings)

    @property
    def complete(self) -> bool:
        """Tell whether nothing has happened since all was done, the final training included."""
        return self._complete

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Note what the study is searched with from here on, by this process."""
        self._append({"event": "opened", "format": _FORMAT, "settings": settings})
        self.settings = settings

    def discard(self) -> None:
        """Remove the ledger of a study in which nothing has happened."""
        (self.folder / LEDGER_FILE).unlink()

    def add(self, event: Event) -> None:
        """Write an event; wait until the disk has it, unless it is an epoch.

        Raises:
            InputError: There is no room, or the disk refuses for another reason.
        """
        self.has_events, self._complete = True, False
        # Not asdict: it copies the metrics, thirty of them an epoch.
        fields = {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}
        synced = not isinstance(event, EpochDone)
        self._append({"event": _NAMES[type(event)], **fields}, synced=synced)

    def add_complete(self) -> None:
        """Note that nothing is left to do."""
        self._append({"event": "complete"})
        self._complete = True

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, line: Mapping[str, Any], *, synced: bool = True) -> None:
        text = json.dumps({**line, "time": round(time.time(), 3)}, separators=(",", ":"))
        end = self._file.seek(0, os.SEEK_END)
        try:
            _write_all(self._file.fileno(), f"{text}\n".encode())
            if synced:
                os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), end)
            raise InputError(
                f"the ledger must be written, but {self._file.name} refused it ({error}); make "
                "room, then go on with --resume"
            ) from error


@contextmanager
def hold(folder: Path) -> Iterator[Ledger]:
    """Open the ledger of a study's folder, which is made if need be; no other process may hold it.

    The lock goes with the process, however that ends.

    Raises:
        InputError: Another process holds it, or it is not a ledger.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InputError(
                f"a study must be searched by one process at a time, but {folder.name} is being "
                f"searched by {lock.read().strip() or 'another one'}; wait for it, or end it"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}\n")
        lock.flush()
        ledger = Ledger(folder, _read(folder / LEDGER_FILE))
        try:
            yield ledger
        finally:
            ledger.close()


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a ledger; a last line that a crash cut short is taken away."""
    if not path.exists():
        return []
    content = path.read_bytes()
    lines, whole = [], 0
    for number, raw in enumerate(content.splitlines(keepends=True), 1):
        line = _parsed(raw)
        if line is None and content[whole + len(raw) :].strip(b"\0\n"):
            raise InputError(
                f"a ledger must hold a JSON object a line, but line {number} of {path} is not "
                "one; put back a copy of the file, or start the study again under another name"
            )
        if line is None:
            break
        lines.append(line)
        whole += len(raw)
    if whole < len(content):
        os.truncate(path, whole)
    if lines and (lines[0]["event"] != "opened" or lines[0]["format"] != _FORMAT):
        raise InputError(
            f"a ledger must begin with a line of format {_FORMAT}, but {path} does not; it was "
            "written by another version of this project"
        )
    return lines


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw) if raw.endswith(b"\n") else None
    except ValueError:
        return None
    return line if isinstance(line, dict) and "event" in line else None


def _event(line: Mapping[str, Any]) -> Event:
    kind = _EVENTS[line["event"]]
    return kind(**{field.name: line[field.name] for field in dataclasses.fields(kind)})


def _seconds(lines: list[dict[str, Any]]) -> float:
    """Return the time between each opening and the last line before the next one."""
    total, begun, last = 0.0, 0.0, 0.0
    for line in lines:
        if line["event"] == "opened":
            total += last - begun
            begun = line["time"]
        last = line["time"]
    return total + last - begun
