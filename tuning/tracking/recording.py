"""Record a search in MLflow.

A study is one parent run in the experiment of its data set; each trial is a run nested in it. The
process that drives the search records, the workers never do. A call only puts a message on a list:
a thread delivers them about once a second, so a slow or absent server holds nobody up.

This module is the face of everything that talks to MLflow: reading back (``recorded_trials``),
final trainings (``final_recording``), late delivery (``redelivery``) and the model registry
(``model_registry``) are had from here.
"""

from __future__ import annotations

import atexit
import json
import math
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from mianet.errors import InputError
from tuning.analysis.front import pareto_front
from tuning.events.journal import JOURNAL_FOLDER, Journal
from tuning.spec.errors import RecordingError
from tuning.spec.objectives import OBJECTIVES
from tuning.spec.records import (
    BEST_PREFIX,
    EXECUTIONS_TAG,
    FRONT_TAG,
    LOG10_PREFIX,
    NOTE_TAG,
    PAPER,
    SPACE_TAG,
    STATUSES,
    RecordedTrial,
    StudyDescription,
    canonical_json,
    is_candidate,
    means,
    per_execution,
)
from tuning.spec.space import space_to_json
from tuning.tracking import descriptions
from tuning.tracking.closing import Closing
from tuning.tracking.final_recording import FinalDescription, FinalRecorder
from tuning.tracking.model_registry import RegisteredModel, register_model
from tuning.tracking.recorded_trials import check_new_study, read_earlier_study, read_trials
from tuning.tracking.redelivery import deliver_waiting, deliver_waiting_for
from tuning.tracking.run_messages import (
    ResumeRun,
    RunMessage,
    StartRun,
    decoded,
    now_ms,
)
from tuning.tracking.run_writer import (
    RunWriter,
    common_tags,
    dataset_message,
    end,
    experiment_for,
    experiment_name,
    values,
)
from tuning.tracking.store import default_tracking_uri, open_store
from tuning.tracking.study_memory import StudyMemory, TrialMemory, new_figures
from tuning.tracking.views import Links, links_to, save_view

__all__ = [
    "JOURNAL_FOLDER",
    "FinalDescription",
    "FinalRecorder",
    "Links",
    "RecordedTrial",
    "RecordingError",
    "RegisteredModel",
    "StudyDescription",
    "StudyRecorder",
    "check_new_study",
    "default_tracking_uri",
    "deliver_waiting",
    "deliver_waiting_for",
    "experiment_name",
    "read_earlier_study",
    "read_trials",
    "register_model",
]


_CUT_OFF = ("running", "interrupted")
_BEGINNING = 3
"""Messages that a new study begins with: its run, its data, its parameters."""

_MAX_NONFINITE_LISTED = 50
_NOTHING: Mapping[str, float] = MappingProxyType({})


class StudyRecorder(Closing):
    """Records one study. As a context manager it leaves no run running.

    Attributes:
        study_run_id: MLflow's run of the study.
        links: Where a person finds the study.
    """

    def __init__(
        self,
        writer: RunWriter,
        description: StudyDescription,
        recorded: Sequence[RunMessage],
        links: Links,
    ) -> None:
        """Take over a run that has been created or found again; use ``open``."""
        self.study_run_id = writer.run_id
        self.links = links
        self._writer = writer
        self._key = recorded[0].run
        self._description = description
        self._memory = StudyMemory()
        for message in recorded:
            self._memory.apply(message)
        self._called: dict[str, TrialMemory] = {}
        self._going_on: set[str] = set()
        atexit.register(self._close_at_exit)

    @classmethod
    def open(
        cls,
        tracking_uri: str,
        description: StudyDescription,
        journal: Path | None = None,
        resume: bool = False,
    ) -> Self:
        """Find the store, and create the study's run in the experiment of its data set.

        Args:
            tracking_uri: The store.
            description: What is known of the study.
            journal: Folder that keeps what is recorded until it is delivered, and what a later
                process needs to go on with the study; None to keep it in memory only.
            resume: Go on with the study of the journal, where there is one: its runs are found
                again and are never created twice. What is told again of its trials is passed
                over, so a caller need not know what had been recorded.

        Raises:
            InputError: The store does not answer or cannot be written to; found in seconds. Or
                the journal is another process's, cannot be written, or does not fit: there is one
                and ``resume`` is not asked for, or its study is not in the store.
        """
        store = open_store(tracking_uri)
        experiment = experiment_for(store, description.dataset)
        kept = Journal(journal) if journal else None
        try:
            recorded = _recorded(kept, resume=resume) if kept else []
            start = _start_of(recorded, kept) if kept and recorded else _study_start(description)
            save_view(store, experiment, description)
            writer = RunWriter(store, experiment, start, kept)
        except BaseException:
            if kept:
                kept.give_up()
            raise
        links = links_to(store, experiment, description.name)
        recorder = cls(writer, description, recorded or [start], links)
        recorder._begin(is_new=len(recorded) < _BEGINNING)
        return recorder

    def run_of(self, number: int) -> str:
        """Return MLflow's run of a trial; empty as long as the store has not been told of it."""
        return self._writer.known_run_id(f"{self._key}-{number:05d}")

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
        if trial in self._called:
            return
        self._going_on.add(trial)
        if number in self._memory.trials:
            self._called[trial] = self._attach(self._memory.trials[number], hyperparameters)
            return
        key = f"{self._key}-{number:05d}"
        name = f"trial {number:03d} (paper)" if origin == PAPER else f"trial {number:03d}"
        note = descriptions.trial_note(self._description, number, origin, hyperparameters)
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
        self._put(
            StartRun(key, name, now_ms(), tags, parent=self._key),
            dataset_message(key, self._description, "search"),
            values(key, params=hyperparameters),
        )
        self._called[trial] = self._memory.trials[number]

    def epoch_finished(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record an epoch's metrics; epochs count from 1.

        Of single executions only the objective at the best epoch so far is, as a tag.

        An epoch that the trial has recorded already is passed over: a trial that was set back to
        a checkpoint repeats itself. NaN and infinity are not recorded as metrics, since they
        break charts and comparisons; the tag ``nonfinite_metrics`` names them.
        """
        record = self._running(trial)
        if epoch in record.epochs:
            return
        broken = [
            f"{name} = {value} at epoch {epoch}"
            for name, value in metrics.items()
            if not math.isfinite(value)
        ]
        list_them = broken and len(record.nonfinite) < _MAX_NONFINITE_LISTED
        tags = record.with_nonfinite(broken) if list_them else {}
        if record.is_best(epoch, metrics):
            tags |= {EXECUTIONS_TAG: json.dumps(per_execution(metrics, record.objective))}
        self._go_on(record)
        self._put(values(record.key, metrics=means(metrics), tags=tags, step=epoch))

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
        self._going_on.discard(trial)
        if record.status != status:  # else nothing new was told of it since it was recorded
            self._go_on(record)
            self._end_trial(record, status, reason, summary)

    def end_left_running(
        self, status: str = "interrupted", reason: str = "Its process ended before it."
    ) -> list[int]:
        """End the trials that an earlier process left running and that have not gone on since.

        ``close`` does so as well.

        Returns:
            Their numbers.
        """
        going_on = {self._called[trial].number for trial in self._going_on}
        left = [
            record
            for number, record in sorted(self._memory.trials.items())
            if record.status == "running" and number not in going_on
        ]
        for record in left:
            self._end_trial(record, status, reason, _NOTHING)
        return [record.number for record in left]

    def close(
        self,
        status: str = "finished",
        *,
        summary: Mapping[str, float] = _NOTHING,
        note: str = "",
        deadline_seconds: float | None = None,
    ) -> None:
        """End the study, and its trials that have not ended; deliver everything.

        A second call does nothing.

        Args:
            status: How the study ended: ``finished``, ``failed`` or ``interrupted``.
            summary: Further figures of the study.
            note: Markdown that is added to its description.
            deadline_seconds: How long to wait for a store that does not answer; by default a
                minute, or a few seconds for an interrupted study whose journal keeps the rest.

        Raises:
            RecordingError: Something did not reach the store; says what and why.
        """
        if self._writer.closed:
            return
        atexit.unregister(self._close_at_exit)
        self._going_on.clear()
        self.end_left_running(reason="The study ended before it.")
        self._end_study(status, summary, note)
        if deadline_seconds is None:
            deadline_seconds = self._writer.deadline_of(status)
        self._writer.close(deadline_seconds)

    def _close_at_exit(self) -> None:
        self.close_quietly("interrupted", "The process ended before the study did.")

    def _running(self, trial: str) -> TrialMemory:
        if trial not in self._going_on:
            record = self._called.get(trial)
            state = f"has ended ({record.status})" if record else "was never started"
            raise ValueError(f"a trial must be running to be recorded, but {trial!r} {state}")
        return self._called[trial]

    def _put(self, *messages: RunMessage) -> None:
        self._writer.put(*messages)
        for message in messages:
            self._memory.apply(message)

    def _begin(self, *, is_new: bool) -> None:
        if is_new:
            self._put(
                dataset_message(self._key, self._description, "search"),
                values(self._key, params=descriptions.study_params(self._description)),
            )
        else:
            tags = {"status": "running", **_study_tags(self._description)}
            self._put(ResumeRun(self._key, now_ms()), values(self._key, tags=tags))

    def _attach(self, record: TrialMemory, hyperparameters: Mapping[str, Any]) -> TrialMemory:
        """Find a recorded trial again; one that was cut off goes on at once."""
        if not record.hyperparameters:
            self._put(values(record.key, params=hyperparameters))
        if record.status in _CUT_OFF:
            self._go_on(record, at_once=True)
        return record

    def _go_on(self, record: TrialMemory, *, at_once: bool = False) -> None:
        if at_once or record.status != "running":
            tags = {"status": "running", "reason": "Went on after an interruption."}
            self._put(ResumeRun(record.key, now_ms()), values(record.key, tags=tags))

    def _end_trial(
        self, record: TrialMemory, status: str, reason: str, summary: Mapping[str, float]
    ) -> None:
        figures = {
            **record.summary(),
            "epochs": record.last_epoch,
            "duration_seconds": record.time.seconds(now_ms()),
            **summary,
            **self._logarithms(record),
        }
        new = new_figures(record.figures, figures)
        outcome = descriptions.outcome_line(
            status,
            OBJECTIVES[record.objective].metric,
            record.score,
            record.best_epoch,
            record.last_epoch,
            reason,
        )
        tags = {"status": status, "reason": reason, NOTE_TAG: f"{record.note}\n\n{outcome}"}
        self._put(values(record.key, metrics=new, tags=tags), end(record.key, status))

    def _searched(self, record: TrialMemory) -> dict[str, Any]:
        space = self._description.space
        return {name: value for name, value in record.hyperparameters.items() if name in space}

    def _logarithms(self, record: TrialMemory) -> dict[str, float]:
        return {
            f"{LOG10_PREFIX}{name}": math.log10(value)
            for name, value in self._searched(record).items()
            if getattr(self._description.space[name], "log", False) and value > 0
        }

    def _end_study(self, status: str, summary: Mapping[str, float], note: str) -> None:
        counts = Counter(record.status for record in self._memory.trials.values())
        duration = self._memory.time.seconds(now_ms())
        metrics: dict[str, float] = {
            "trials": len(self._memory.trials),
            **{f"trials_{name}": counts[name] for name in STATUSES},
            "duration_seconds": duration,
        }
        tags = {"status": status}
        best = self._best()
        if best:
            metrics |= {"best_score": best.score, "best_epoch": best.best_epoch, **best.best}
            tags["best_trial"] = best.name
            # Tags, since a study that goes on may find a better one and MLflow's params are final.
            tags |= {f"best.{name}": str(value) for name, value in best.hyperparameters.items()}
            tags |= self._front_tag()
        metric = OBJECTIVES[self._description.objective].metric
        result = descriptions.study_result(
            counts,
            duration,
            descriptions.score_line(best.name, metric, best.score, best.best_epoch) if best else "",
            self._searched(best) if best else {},
        )
        parts = [descriptions.study_note(self._description, result), note]
        tags[NOTE_TAG] = "\n\n".join(part for part in parts if part)
        new = new_figures(self._memory.figures, {**metrics, **summary})
        self._put(values(self._key, metrics=new, tags=tags), end(self._key, status))

    def _front_tag(self) -> dict[str, str]:
        """Return the tag that names the trials of the Pareto front, where there can be one."""
        objective = OBJECTIVES[self._description.objective]
        if not objective.has_several:
            return {}
        points = {
            record.number: tuple(record.best[f"{BEST_PREFIX}{name}"] for name in objective.values)
            for record in self._candidates()
        }
        return {FRONT_TAG: ", ".join(map(str, pareto_front(points)))}

    def _candidates(self) -> list[TrialMemory]:
        planned = int(self._description.protocol.get("executions", 0))
        return [
            record
            for record in self._memory.trials.values()
            if is_candidate(record.status, record.score, record.executions, planned)
        ]

    def _best(self) -> TrialMemory | None:
        return max(
            self._candidates(), key=lambda record: (record.score, -record.number), default=None
        )


def _recorded(journal: Journal, *, resume: bool) -> list[RunMessage]:
    """Return what the journal has of its study, from the study's start on; nothing if it is new."""
    if journal.records and not resume:
        raise InputError(
            f"a new study needs a new journal, but {journal.folder} has one; resume that study, or "
            "give another --study"
        )
    return [decoded(record) for record in journal.records]


def _start_of(recorded: Sequence[RunMessage], journal: Journal) -> StartRun:
    if not isinstance(recorded[0], StartRun):
        raise InputError(f"{journal.folder} must begin with a study's run, but begins with none")
    return recorded[0]


def _tags_of(description: StudyDescription) -> dict[str, str]:
    return common_tags(
        dataset=description.dataset,
        study=description.name,
        protocol=description.protocol,
        data_digest=description.data_digest,
        objective=description.objective,
    )


def _study_tags(description: StudyDescription) -> dict[str, str]:
    return {
        **_tags_of(description),
        SPACE_TAG: space_to_json(description.space),
        NOTE_TAG: descriptions.study_note(description),
    }


def _study_start(description: StudyDescription) -> StartRun:
    tags = {
        "kind": "study",
        "status": "running",
        "protocol": canonical_json(description.protocol),
        **_study_tags(description),
    }
    return StartRun(uuid.uuid4().hex, description.name, now_ms(), tags)
