"""What happens in a study, a final training or a confirmation: plain facts, each with its time.

``encoded`` and ``decoded`` are the one way in which events are written and read.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tuning.spec.records import FinalDescription, StudyDescription
from tuning.spec.space import space_from_json, space_to_json

FORMAT = 1
"""Version of the lines that are written; the line that opens a log has it."""


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        time_ms: When, in milliseconds since 1970; two events that differ in it only are equal.
    """

    time_ms: int = field(default_factory=lambda: now_ms(), kw_only=True, compare=False)


@dataclass(frozen=True, kw_only=True)
class Opening(Event):
    """A process begins with what a log is about, or goes on with it.

    Attributes:
        key: The same in all openings of a log, and in no other log.
        description: What is known before anything is computed.
        tracking_uri: The store that it is recorded to; without a password.
        experiment: MLflow's experiment there.
        provenance: Tags that say which code on which machine is at work.
    """

    key: str
    description: StudyDescription | FinalDescription
    tracking_uri: str = ""
    experiment: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Opened(Opening):
    """A process searches a study from here on.

    Attributes:
        description: What is known of the study.
        settings: What ``--resume`` needs: the options, and digests of data and code.
        hyperparameters: Those that all trials share, and the searched ones' defaults.
        device: Where trials train.
    """

    description: StudyDescription
    settings: Mapping[str, Any] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    device: str = ""


@dataclass(frozen=True, kw_only=True)
class FinalStarted(Opening):
    """A final training or a confirmation starts.

    Attributes:
        description: What is known of it.
    """

    description: FinalDescription


@dataclass(frozen=True)
class Proposed(Event):
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
class EpochDone(Event):
    """A trial finished an epoch.

    Attributes:
        number: The trial's.
        epoch: From 1.
        score: Best of its curve so far, in what the study maximises.
        best_epoch: The epoch of that best; 0 while there is none.
        metrics: What is recorded of the epoch.
    """

    number: int
    epoch: int
    score: float
    best_epoch: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Ended(Event):
    """A trial ended, for good.

    Attributes:
        number: The trial's.
        status: One of ``records.STATUSES``, but not ``interrupted``: such a trial can go on.
        reason: Why, for a person.
    """

    number: int
    status: str
    reason: str


@dataclass(frozen=True)
class SeedDone(Event):
    """A seed of a final training ended, or a draw of a confirmation.

    Attributes:
        metrics: What is recorded of it.
    """

    metrics: Mapping[str, float]


@dataclass(frozen=True)
class TextAdded(Event):
    """A text belongs to a final training.

    Attributes:
        path: What it is called.
        text: The text.
    """

    path: str
    text: str


@dataclass(frozen=True)
class Closed(Event):
    """The process stops working on what the log is about.

    Attributes:
        status: ``finished``, ``failed`` or ``interrupted``.
        note: Why, or what else there is to say, for a person.
        summary: Figures of all of it.
    """

    status: str
    note: str = ""
    summary: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Completed(Event):
    """Nothing is left to do of a study, the final training included."""


_KINDS: Mapping[str, type[Event]] = {
    "opened": Opened,
    "final": FinalStarted,
    "proposed": Proposed,
    "epoch": EpochDone,
    "ended": Ended,
    "seed": SeedDone,
    "text": TextAdded,
    "closed": Closed,
    "completed": Completed,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_FIELDS = {kind: [f.name for f in dataclasses.fields(kind)] for kind in _KINDS.values()}
_T = TypeVar("_T")


def encoded(event: Event) -> dict[str, Any]:
    """Return an event as JSON can hold it."""
    # Not asdict: it copies the metrics, thirty of them an epoch.
    values = {name: _plain(getattr(event, name)) for name in _FIELDS[type(event)]}
    version = {"format": FORMAT} if isinstance(event, Opening) else {}
    return {"event": _NAMES[type(event)], **version, **values}


def decoded(line: Mapping[str, Any]) -> Event:
    """Return the event that ``encoded`` was given.

    Raises:
        KeyError, TypeError, ValueError: It is no such thing.
    """
    kind = _KINDS[line["event"]]
    values = {name: line[name] for name in _FIELDS[kind]}
    if issubclass(kind, Opening):
        if line["format"] != FORMAT:
            raise ValueError(f"it has the format {line['format']}, and this version {FORMAT}")
        described = dict(values["description"])
        if kind is Opened:
            described["space"] = space_from_json(described["space"])
            values["description"] = StudyDescription(**described)
        else:
            values["description"] = FinalDescription(**described)
    return kind(**values)


def _plain(value: _T) -> _T | dict[str, Any]:
    """Return a value as JSON can hold it; only descriptions are changed."""
    if isinstance(value, StudyDescription):
        return {**vars(value), "space": space_to_json(value.space)}
    if isinstance(value, FinalDescription):
        return dict(vars(value))
    return value
