"""Record a search in MLflow.

A study is one parent run in the experiment of its data set; each trial is a run nested in it. The
process that drives the search records, the workers never do. A call only puts a message on a list:
a thread delivers them about once a second, so a slow or absent server holds nobody up.

This module is the face of everything that talks to MLflow: reading back (``recorded_trials``),
final trainings (``final_recording``) and the model registry (``model_registry``) are had from here.
"""

from __future__ import annotations

import atexit
import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Any, Self

from tuning import descriptions
from tuning.final_recording import FinalDescription, FinalRecorder
from tuning.model_registry import RegisteredModel, register_model
from tuning.recorded_trials import check_new_study, read_trials
from tuning.records import (
    BEST_PREFIX,
    EXECUTION_PREFIX,
    OBJECTIVE,
    PAPER,
    STATUSES,
    RecordedTrial,
    StudyDescription,
    canonical_json,
    is_candidate,
)
from tuning.run_messages import StartRun, now_ms
from tuning.run_writer import (
    CLOSE_DEADLINE_SECONDS,
    NOTE_TAG,
    RecordingError,
    RunWriter,
    common_tags,
    dataset_message,
    experiment_for,
    experiment_name,
)
from tuning.tracking import default_tracking_uri, open_store

__all__ = [
    "FinalDescription",
    "FinalRecorder",
    "RecordedTrial",
    "RecordingError",
    "RegisteredModel",
    "StudyDescription",
    "StudyRecorder",
    "check_new_study",
    "default_tracking_uri",
    "experiment_name",
    "read_trials",
    "register_model",
]

_logger = logging.getLogger(__name__)

HYPERPARAMETER_METRIC = "hp."
"""Before a searched hyperparameter's name as a metric: MLflow compares parameters as strings."""

_MAX_NONFINITE_LISTED = 50
_NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass
class _Trial:
    """What the recorder remembers of a trial."""

    key: str
    number: int
    name: str
    hyperparameters: Mapping[str, Any]
    note: str
    started: float = field(default_factory=time.monotonic)
    status: str = "running"
    epochs: int = 0
    executions: int = 0
    score: float = math.nan
    best_epoch: int = 0
    best: Mapping[str, float] = field(default_factory=dict)
    nonfinite: list[str] = field(default_factory=list)

    def take(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Learn an epoch's metrics; of equal bests the first is kept."""
        self.epochs = epoch
        score = metrics.get(OBJECTIVE, math.nan)
        if not math.isfinite(score) or score <= self.score:
            return
        self.score, self.best_epoch = score, epoch
        self.executions = sum(name.startswith(EXECUTION_PREFIX) for name in metrics)
        self.best = {
            f"{BEST_PREFIX}{name}": value
            for name, value in metrics.items()
            if name.startswith("val_") and "_execution_" not in name
        }

    def figures(self) -> dict[str, float]:
        """Return the score and what belongs to it, where there is one."""
        if not self.best_epoch:
            return {}
        return {"score": self.score, "best_epoch": self.best_epoch, **self.best}


class StudyRecorder:
    """Records one study. As a context manager it leaves no run running.

    Attributes:
        study_run_id: MLflow's run of the study.
    """

    def __init__(self, writer: RunWriter, key: str, description: StudyDescription) -> None:
        """Take over a run that has been created; use ``open``."""
        self.study_run_id = writer.run_id
        self._writer = writer
        self._key = key
        self._description = description
        self._started = time.monotonic()
        self._trials: dict[str, _Trial] = {}
        atexit.register(self._close_at_exit)

    @classmethod
    def open(cls, tracking_uri: str, description: StudyDescription) -> Self:
        """Find the store, and create the study's run in the experiment of its data set.

        Raises:
            InputError: The store does not answer or cannot be written to; found in seconds.
        """
        store = open_store(tracking_uri)
        key = uuid.uuid4().hex
        tags = {
            "kind": "study",
            "status": "running",
            **_tags_of(description),
            "protocol": canonical_json(description.protocol),
            NOTE_TAG: descriptions.study_note(description),
        }
        start = StartRun(key, description.name, now_ms(), tags)
        writer = RunWriter(store, experiment_for(store, description.dataset), start)
        writer.put(dataset_message(key, description, "search"))
        writer.log(key, params=_study_params(description))
        return cls(writer, key, description)

    @property
    def location(self) -> str:
        """Return where a person finds the study: an address, or the command that shows it."""
        return self._writer.location

    def trial_started(
        self,
        trial: str,
        number: int,
        hyperparameters: Mapping[str, Any],
        *,
        origin: str,
        device: str = "",
        worker: str = "",
    ) -> None:
        """Record that a trial starts; said again of the same trial, it goes on.

        Args:
            trial: What the caller calls it.
            number: Its number in the study, from 0.
            hyperparameters: All of them.
            origin: Who proposed it: ``paper`` or the sampler's name.
            device: Where it is trained, such as ``cpu`` or ``cuda:0 (H100)``.
            worker: Host or process that trains it.
        """
        if trial in self._trials:
            return
        name = f"trial {number:03d} (paper)" if origin == PAPER else f"trial {number:03d}"
        note = descriptions.trial_note(self._description, number, origin, hyperparameters)
        record = _Trial(uuid.uuid4().hex, number, name, dict(hyperparameters), note)
        tags = {
            "kind": "trial",
            "status": "running",
            "number": str(number),
            "origin": origin,
            "device": device,
            "worker": worker,
            "trial_id": trial,
            **_tags_of(self._description),
            NOTE_TAG: note,
        }
        self._writer.put(StartRun(record.key, name, now_ms(), tags, parent=self._key))
        self._trials[trial] = record
        self._writer.put(dataset_message(record.key, self._description, "search"))
        self._writer.log(record.key, params=hyperparameters)

    def epoch_finished(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record an epoch's metrics; epochs count from 1.

        An epoch that the trial has recorded already is passed over: a trial that was set back to
        a checkpoint repeats itself. NaN and infinity are not recorded as metrics, since they
        break charts and comparisons; the tag ``nonfinite_metrics`` names them.
        """
        record = self._running(trial)
        if epoch <= record.epochs:
            return
        record.take(epoch, metrics)
        broken = [
            f"{name} = {value} at epoch {epoch}"
            for name, value in metrics.items()
            if not math.isfinite(value)
        ]
        tags = {}
        if broken and len(record.nonfinite) < _MAX_NONFINITE_LISTED:
            record.nonfinite += broken
            tags = {"nonfinite_metrics": "; ".join(record.nonfinite)}
        self._writer.log(record.key, metrics=metrics, tags=tags, step=epoch)

    def trial_ended(
        self, trial: str, status: str, *, reason: str = "", summary: Mapping[str, float] = _NOTHING
    ) -> None:
        """Record how a trial ended; its score and best epoch follow from its epochs.

        Args:
            trial: What the caller calls it.
            status: One of ``STATUSES``.
            reason: Why, for a person.
            summary: Further figures, such as seconds of training.
        """
        if status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}, but got {status!r}")
        record = self._running(trial)
        record.status = status
        figures = {
            **record.figures(),
            "epochs": record.epochs,
            "duration_seconds": time.monotonic() - record.started,
            **summary,
            **self._as_metrics(record),  # the last: MLflow's charts begin with the first
        }
        outcome = descriptions.outcome_line(
            status, record.score, record.best_epoch, record.epochs, reason
        )
        tags = {"status": status, "reason": reason, NOTE_TAG: f"{record.note}\n\n{outcome}"}
        self._writer.log(record.key, metrics=figures, tags=tags)
        self._writer.end(record.key, status)

    def close(
        self,
        status: str = "finished",
        *,
        summary: Mapping[str, float] = _NOTHING,
        note: str = "",
        deadline_seconds: float = CLOSE_DEADLINE_SECONDS,
    ) -> None:
        """End the study, and its trials that have not ended; deliver everything.

        A second call does nothing.

        Args:
            status: How the study ended: ``finished``, ``failed`` or ``interrupted``.
            summary: Further figures of the study.
            note: Markdown that is added to its description.
            deadline_seconds: How long to wait for a store that does not answer.

        Raises:
            RecordingError: Something did not reach the store; says what and why.
        """
        if self._writer.closed:
            return
        atexit.unregister(self._close_at_exit)
        for trial, record in self._trials.items():
            if record.status == "running":
                self.trial_ended(trial, "interrupted", reason="The study ended before it.")
        self._end_study(status, summary, note)
        self._writer.close(deadline_seconds)

    def __enter__(self) -> Self:
        """Return the recorder."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the study: as failed or interrupted where an exception ends it."""
        if error is None:
            self.close()
            return
        status = "failed" if isinstance(error, Exception) else "interrupted"
        self._close_quietly(status, f"Ended by {type(error).__name__}: {error}")

    def _close_at_exit(self) -> None:
        self._close_quietly("interrupted", "The process ended before the study did.")

    def _close_quietly(self, status: str, note: str) -> None:
        try:
            self.close(status, note=note)
        except RecordingError as loss:
            # What ends the study matters more, and goes on to the caller.
            _logger.error("%s", loss)  # noqa: TRY400

    def _running(self, trial: str) -> _Trial:
        record = self._trials.get(trial)
        if record is None or record.status != "running":
            state = f"has ended ({record.status})" if record else "was never started"
            raise ValueError(f"a trial must be running to be recorded, but {trial!r} {state}")
        return record

    def _searched(self, record: _Trial) -> dict[str, Any]:
        searched = self._description.searched
        return {name: value for name, value in record.hyperparameters.items() if name in searched}

    def _as_metrics(self, record: _Trial) -> dict[str, float]:
        numbers = {
            name: float(value)
            for name, value in self._searched(record).items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        logarithms = {
            f"log10_{name}": math.log10(numbers[name])
            for name in self._description.log_scaled
            if numbers.get(name, 0) > 0
        }
        return {
            f"{HYPERPARAMETER_METRIC}{name}": value
            for name, value in (numbers | logarithms).items()
        }

    def _end_study(self, status: str, summary: Mapping[str, float], note: str) -> None:
        counts = Counter(record.status for record in self._trials.values())
        duration = time.monotonic() - self._started
        metrics: dict[str, float] = {
            "trials": len(self._trials),
            **{f"trials_{name}": counts[name] for name in STATUSES},
            "duration_seconds": duration,
        }
        tags = {"status": status}
        best = self._best()
        params: dict[str, Any] = {}
        if best:
            metrics |= {"best_score": best.score, "best_epoch": best.best_epoch, **best.best}
            params = {f"best.{name}": value for name, value in best.hyperparameters.items()}
            tags["best_trial"] = best.name
        result = descriptions.study_result(
            counts,
            duration,
            descriptions.score_line(best.name, best.score, best.best_epoch) if best else "",
            self._searched(best) if best else {},
        )
        parts = [descriptions.study_note(self._description, result), note]
        tags[NOTE_TAG] = "\n\n".join(part for part in parts if part)
        self._writer.log(self._key, metrics={**metrics, **summary}, params=params, tags=tags)
        self._writer.end(self._key, status)

    def _best(self) -> _Trial | None:
        planned = int(self._description.protocol.get("executions", 0))
        candidates = [
            record
            for record in self._trials.values()
            if is_candidate(record.status, record.score, record.executions, planned)
        ]
        return max(candidates, key=lambda record: (record.score, -record.number), default=None)


def _tags_of(description: StudyDescription) -> dict[str, str]:
    return common_tags(
        dataset=description.dataset,
        study=description.name,
        protocol=description.protocol,
        data_digest=description.data_digest,
    )


def _study_params(description: StudyDescription) -> dict[str, Any]:
    return descriptions.flattened(
        {
            "dataset": description.dataset,
            "protocol": description.protocol,
            "searched": ", ".join(description.searched),
            **description.settings,
        }
    )
