"""What happens in a study, a final training or a confirmation: plain facts, each with its time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuning.spec.records import FinalDescription, StudyDescription
from tuning.spec.space import space_from_json, space_to_json

FORMAT = 1  # version of the lines' format; recorded in the line that opens a log


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Event:
    """Something that happened."""

    # Milliseconds since 1970; not compared, so events that differ only in it are equal.
    time_ms: int = field(default_factory=lambda: now_ms(), kw_only=True, compare=False)


@dataclass(frozen=True, kw_only=True)
class Opened(Event):
    """A process starts or resumes the work that a log is about."""

    key: str  # the same in all openings of a log, and unique to that log
    description: StudyDescription | FinalDescription
    tracking_uri: str = ""  # without a password
    experiment: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)  # tags: which code on which machine
    settings: Mapping[str, Any] = field(default_factory=dict)  # what ``--resume`` needs
    # Those that all trials share, and the defaults of the searched ones.
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    device: str = ""


@dataclass(frozen=True)
class Proposed(Event):
    """A configuration was proposed: the trial's number, from 0, and origin (the sampler's name)."""

    number: int
    configuration: Mapping[str, Any]
    origin: str


@dataclass(frozen=True)
class EpochDone(Event):
    """A trial finished an epoch."""

    number: int
    epoch: int
    score: float  # the best of its curve so far, in what the study maximises
    best_epoch: int  # the epoch of that best; 0 while there is none
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Ended(Event):
    """A trial ended for good: any of ``records.STATUSES`` but ``interrupted``, which can resume."""

    number: int
    status: str
    reason: str


@dataclass(frozen=True)
class SeedDone(Event):
    """A seed of a final training, or a draw of a confirmation, ended."""

    metrics: Mapping[str, float]


@dataclass(frozen=True)
class TextAdded(Event):
    """A file with this text belongs to a final training."""

    path: str
    text: str


@dataclass(frozen=True)
class Closed(Event):
    """The process stopped working on what the log is about."""

    status: str  # ``finished``, ``failed`` or ``interrupted``
    note: str = ""
    summary: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Completed(Event):
    """Nothing is left to do for a study, including the final training."""


_KINDS: Mapping[str, type[Event]] = {
    "opened": Opened,
    "proposed": Proposed,
    "epoch": EpochDone,
    "ended": Ended,
    "seed": SeedDone,
    "text": TextAdded,
    "closed": Closed,
    "completed": Completed,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encoded(event: Event) -> dict[str, Any]:
    """Return an event as a JSON-serialisable dictionary."""
    line = {"event": _NAMES[type(event)], **vars(event)}
    if isinstance(event, Opened):
        described = dict(vars(event.description))
        if "space" in described:
            described["space"] = space_to_json(described["space"])
        line |= {"format": FORMAT, "description": described}
    return line


def decoded(line: Mapping[str, Any]) -> Event:
    """Invert ``encoded``; raise a ``KeyError``, ``TypeError`` or ``ValueError`` if impossible."""
    values = dict(line)
    kind = _KINDS[values.pop("event")]
    if kind is Opened:
        if (version := values.pop("format")) != FORMAT:
            raise ValueError(f"it has format {version}, but this version reads format {FORMAT}")
        described = dict(values["description"])
        if "space" in described:
            described["space"] = space_from_json(described["space"])
            values["description"] = StudyDescription(**described)
        else:
            values["description"] = FinalDescription(**described)
    return kind(**values)
