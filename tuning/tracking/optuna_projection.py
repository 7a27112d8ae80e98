"""A study as an Optuna study in a file, for optuna-dashboard and for Optuna's own plots.

It is derived from the study's log, and none of our code reads it. Names and values are those in
MLflow. The file itself says how much of the log it has; that part is skipped, so each trial is in
it once, and a file that was deleted or damaged is rebuilt.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuning.events import event as events
from tuning.events.event import Closed, Ended, EpochDone, Event, Opened, Proposed
from tuning.events.log import EventLog
from tuning.events.projector import Projection
from tuning.events.state import State
from tuning.events.state import TrialState as Trial
from tuning.spec.records import BEST_PREFIX, best_figures
from tuning.tracking.descriptions import study_params

_logger = logging.getLogger(__name__)

OPTUNA_FILE = "optuna.log"  # in a study's folder

CURSOR_ATTRIBUTE = "event_log_bytes"
"""The attribute of the file's study that says how much of the log it has."""

_LOCK_SECONDS = 3  # how long a killed process's lock stays valid
RUN_SECONDS = 5.0
"""How long after its end a trial waits for its run in MLflow, so that the two can be linked."""


class OptunaProjection(Projection):
    """A study's Optuna file. If it cannot be written, a single warning says so.

    Args:
        log: The study's log; the file is in its folder.
        patience: Epochs without a new best after which a trial counts as complete.
        run_id: MLflow's run of the study.
        run_of: Number of a trial → its MLflow run; empty while there is none.
    """

    receiver = "Optuna file"

    def __init__(
        self, log: EventLog, *, patience: int, run_id: str, run_of: Callable[[int], str]
    ) -> None:
        self._path = log.folder / OPTUNA_FILE
        self._found = log.found
        self._description, self._objective = log.state.study, log.state.objective
        self._patience = patience
        self._run_id, self._run_of = run_id, run_of
        self._state = State()
        self._study = 0
        self._trial_count = 0  # trials in the file

    @property
    def cursor(self) -> int:
        attributes = self._storage.get_study_system_attrs(self._study)
        # At most what the log had at first: an older copy of it may have been restored.
        return min(int(attributes.get(CURSOR_ATTRIBUTE, 0)), self._found)

    def mark(self, end: int) -> None:
        self._storage.set_study_system_attr(self._study, CURSOR_ATTRIBUTE, end)

    def learn(self, event: Event) -> None:
        self._state.apply(event)

    def handle(self, event: Event) -> None:
        """Write what follows from the next event, which takes milliseconds."""
        if isinstance(event, Opened | Closed):
            status = "running" if isinstance(event, Opened) else "interrupted"
            self._mark_running(status)
        elif isinstance(event, Proposed):
            self._propose(event)
        elif isinstance(event, EpochDone):
            self._epoch(event)
        elif isinstance(event, Ended):
            self._end(event)
        self._state.apply(event)

    def end(self, error: Exception) -> None:
        _logger.warning(
            "the Optuna study in %s is no longer updated (%s: %s); the search does not need it. To "
            "have it rebuilt, delete that file and use --resume",
            self._path,
            type(error).__name__,
            error,
        )

    @cached_property
    def _storage(self) -> JournalStorage:
        try:
            storage, self._study = self._open_storage()
        except (ValueError, KeyError, AssertionError):  # damaged, but easily rebuilt
            self._path.unlink()
            storage, self._study = self._open_storage()
        self._trial_count = len(storage.get_all_trials(self._study, deepcopy=False))
        self._describe(storage)
        return storage

    def _open_storage(self) -> tuple[JournalStorage, int]:
        _end_with_a_whole_line(self._path)
        lock = JournalFileSymlinkLock(str(self._path), grace_period=_LOCK_SECONDS)
        storage = JournalStorage(JournalFileBackend(str(self._path), lock_obj=lock))
        study = optuna.create_study(
            study_name=self._description.name,
            storage=storage,
            directions=["maximize"] * len(self._objective.values),
            load_if_exists=True,
        )
        return storage, study._study_id

    def _describe(self, storage: JournalStorage) -> None:
        """Write the parameters that the study has in MLflow, and how to find it there."""
        names = [f"{BEST_PREFIX}{name}" for name in self._objective.values]
        storage.set_study_system_attr(self._study, "study:metric_names", names)
        known = storage.get_study_user_attrs(self._study)
        for name, value in {
            **study_params(self._description),
            "mlflow_run_id": self._run_id,
        }.items():
            plain = value if isinstance(value, str | int | float | bool) else str(value)  # for JSON
            if known.get(name) != plain:
                storage.set_study_user_attr(self._study, name, plain)

    def _trial(self, number: int) -> FrozenTrial:
        storage = self._storage
        return storage.get_trial(
            storage.get_trial_id_from_study_id_trial_number(self._study, number)
        )

    def _propose(self, event: Proposed) -> None:
        configuration = dict(event.configuration)
        if (
            event.number == self._trial_count
        ):  # not recounted: Optuna would list all trials for that
            template = create_trial(
                state=TrialState.RUNNING,
                params=configuration,
                distributions=dict(self._description.space),
                user_attrs={"status": "running", "origin": event.origin},
            )
            self._storage.create_new_trial(self._study, template)
            self._trial_count += 1
        elif self._trial(event.number).params != configuration:
            raise ValueError(f"its trial {event.number} belongs to another study")

    def _epoch(self, event: EpochDone) -> None:
        trial = self._trial(event.number)
        if not trial.state.is_finished() and event.epoch not in trial.intermediate_values:
            value = event.metrics[self._objective.value]
            self._storage.set_trial_intermediate_value(trial._trial_id, event.epoch, value)

    def _end(self, event: Ended) -> None:
        """End a trial with all that MLflow has of its end; the state comes last, being final."""
        found = self._trial(event.number)
        if found.state.is_finished():
            return
        trial = self._state.trials[event.number]
        attributes: dict[str, Any] = {
            "reason": event.reason,
            "mlflow_run_id": self._wait_for_run(event),
            "epochs": trial.epoch,
        }
        attributes = {"status": event.status, **{n: v for n, v in attributes.items() if v}}
        if trial.best_epoch:
            figures = best_figures(trial.best)
            attributes |= {"score": trial.score, "best_epoch": trial.best_epoch, **figures}
        for name, value in attributes.items():
            self._storage.set_trial_user_attr(found._trial_id, name, value)
        state = self._final_state(event.status, trial)
        has_values = trial.best_epoch and state != TrialState.FAIL
        values = list(trial.values) if has_values else None
        self._storage.set_trial_state_values(found._trial_id, state, values)

    def _final_state(self, status: str, trial: Trial) -> TrialState:
        """Return Optuna's state for an end; docs/recording.md has the reasons."""
        if not trial.epoch or status in ("infeasible", "failed"):
            return TrialState.FAIL
        is_past_its_best = trial.epoch - trial.best_epoch >= self._patience
        is_whole = status == "finished" or is_past_its_best or self._objective.has_several
        return TrialState.COMPLETE if is_whole else TrialState.PRUNED

    def _mark_running(self, status: str) -> None:
        """Mark the trials that have not ended as running, or as interrupted with the study."""
        for known in self._state.running:
            trial = self._trial(known.number)
            if not trial.state.is_finished() and trial.user_attrs.get("status") != status:
                self._storage.set_trial_user_attr(trial._trial_id, "status", status)

    def _wait_for_run(self, event: Ended) -> str:
        deadline_ms = event.time_ms + 1000 * RUN_SECONDS
        while not (run := self._run_of(event.number)) and events.now_ms() < deadline_ms:
            time.sleep(0.05)
        return run


def _end_with_a_whole_line(path: Path) -> None:
    """Remove a last line that a crash cut short: Optuna would append to it."""
    if path.exists() and not (content := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)
