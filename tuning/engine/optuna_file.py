"""A study as an Optuna study in a file, for optuna-dashboard and for Optuna's own plots.

It is derived from the study's events and nothing of ours reads it: the ledger is the truth. Names
and values are those that MLflow has. What is in the file already is passed over, so a study that
goes on, and is told all of its past again, has each trial in it once.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState, create_trial

from tuning.events.ledger import Ended, EpochDone, Event, Proposed
from tuning.spec.objectives import OBJECTIVES
from tuning.spec.records import BEST_PREFIX, StudyDescription, best_figures
from tuning.tracking.descriptions import study_params

_logger = logging.getLogger(__name__)

OPTUNA_FILE = "optuna.log"
"""The file in a study's folder."""

_LOCK_SECONDS = 3
"""How long a lock counts that a killed process left."""
_RUN_SECONDS = 5.0
"""How long after its end a trial waits for MLflow to have its run, so that the two can be tied."""
_CLOSE_SECONDS = 60.0


class OptunaFile:
    """Keeps a study's Optuna file, on a thread of its own: the search waits for nothing.

    As a context manager it writes what is left at its end. Where the file cannot be written, one
    warning says so, and the search goes on without.

    Args:
        folder: The study's.
        description: What is known of the study.
        space: Searched hyperparameter → where its values are drawn from.
        patience: Epochs without a new best after which a trial counts as complete.
        run_id: MLflow's run of the study.
        run_of: Number of a trial → MLflow's run of it; empty as long as there is none.
    """

    def __init__(
        self,
        folder: Path,
        description: StudyDescription,
        space: Mapping[str, BaseDistribution],
        *,
        patience: int,
        run_id: str,
        run_of: Callable[[int], str],
    ) -> None:
        self._events: SimpleQueue[tuple[float, Event] | None] = SimpleQueue()
        self._writer = _Writer(folder / OPTUNA_FILE, description, space, patience, run_id, run_of)
        self._thread = threading.Thread(target=self._run, name="optuna-file", daemon=True)
        self._thread.start()

    def take(self, event: Event) -> None:
        """Accept what happened, at once."""
        self._events.put((time.monotonic(), event))

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write what is left."""
        self._events.put(None)
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            while item := self._events.get():
                self._writer.write(*item)
            self._writer.end()
        except Exception as error:
            _logger.warning(
                "the Optuna study in %s is not kept any further (%s: %s); the search does not need "
                "it. To have it made anew, delete that file and go on with --resume",
                self._writer.path,
                type(error).__name__,
                error,
            )


class _Writer:
    """Writes events to the file; opened by the first of them."""

    def __init__(
        self,
        path: Path,
        description: StudyDescription,
        space: Mapping[str, BaseDistribution],
        patience: int,
        run_id: str,
        run_of: Callable[[int], str],
    ) -> None:
        self.path = path
        self._description = description
        self._space = dict(space)
        self._patience = patience
        self._run_id = run_id
        self._run_of = run_of
        self._storage: JournalStorage | None = None
        self._study = 0
        self._there = 0  # trials in the file
        self._objective = OBJECTIVES[description.objective]
        self._best: dict[int, EpochDone] = {}
        self._last: dict[int, EpochDone] = {}

    def write(self, at: float, event: Event) -> None:
        """Write an event that happened at a time of the monotonic clock."""
        storage = self._opened()
        if isinstance(event, Proposed):
            self._propose(storage, event)
            return
        trial = storage.get_trial_id_from_study_id_trial_number(self._study, event.number)
        finished = storage.get_trial(trial).state.is_finished()
        if isinstance(event, Ended):
            if not finished:
                self._end(storage, trial, event, at)
            self._last.pop(event.number, None)
            self._best.pop(event.number, None)
            return
        self._last[event.number] = event
        if event.best_epoch == event.epoch:
            self._best[event.number] = event
        if not finished and event.epoch not in storage.get_trial(trial).intermediate_values:
            value = event.metrics[self._objective.value]
            storage.set_trial_intermediate_value(trial, event.epoch, value)

    def end(self) -> None:
        """Say of the trials that have not ended that the study did before them."""
        if self._storage:
            for trial in self._storage.get_all_trials(self._study, states=[TrialState.RUNNING]):
                self._storage.set_trial_user_attr(trial._trial_id, "status", "interrupted")

    def _opened(self) -> JournalStorage:
        if self._storage is None:
            try:
                self._storage, self._study = self._find()
            except (ValueError, KeyError, AssertionError):  # damaged, and easily made anew
                self.path.unlink()
                self._storage, self._study = self._find()
            self._there = len(self._storage.get_all_trials(self._study, deepcopy=False))
            self._describe(self._storage)
        return self._storage

    def _find(self) -> tuple[JournalStorage, int]:
        _end_with_a_whole_line(self.path)
        lock = JournalFileSymlinkLock(str(self.path), grace_period=_LOCK_SECONDS)
        storage = JournalStorage(JournalFileBackend(str(self.path), lock_obj=lock))
        study = optuna.create_study(
            study_name=self._description.name,
            storage=storage,
            directions=["maximize"] * len(self._objective.values),
            load_if_exists=True,
        )
        return storage, study._study_id

    def _describe(self, storage: JournalStorage) -> None:
        """Write the study's parameters in MLflow, and how to find it there."""
        names = [f"{BEST_PREFIX}{name}" for name in self._objective.values]
        storage.set_study_system_attr(self._study, "study:metric_names", names)
        known = storage.get_study_user_attrs(self._study)
        params = {name: _plain(value) for name, value in study_params(self._description).items()}
        for name, value in {**params, "mlflow_run_id": self._run_id}.items():
            if known.get(name) != value:
                storage.set_study_user_attr(self._study, name, value)

    def _propose(self, storage: JournalStorage, event: Proposed) -> None:
        configuration = dict(event.configuration)
        if event.number == self._there:  # not counted anew: Optuna would list all trials for that
            template = create_trial(
                state=TrialState.RUNNING,
                params=configuration,
                distributions=self._space,
                user_attrs={"status": "running", "origin": event.origin},
            )
            storage.create_new_trial(self._study, template)
            self._there += 1
            return
        number = storage.get_trial_id_from_study_id_trial_number(self._study, event.number)
        trial = storage.get_trial(number)
        if trial.params != configuration:
            raise ValueError(f"its trial {event.number} is of another study")
        if trial.user_attrs.get("status") == "interrupted":
            storage.set_trial_user_attr(number, "status", "running")

    def _end(self, storage: JournalStorage, trial: int, event: Ended, at: float) -> None:
        """End a trial with all that MLflow has of its end; the state last, which is final."""
        best, last = self._best.get(event.number), self._last.get(event.number)
        state = self._state(event.status, last)
        attributes: dict[str, Any] = {
            "status": event.status,
            **({"reason": event.reason} if event.reason else {}),
            **({"mlflow_run_id": run} if (run := self._awaited_run(event.number, at)) else {}),
            **({"epochs": last.epoch} if last else {}),
        }
        if best:
            figures = best_figures(best.metrics)
            attributes |= {"score": best.score, "best_epoch": best.epoch, **figures}
        for name, value in attributes.items():
            storage.set_trial_user_attr(trial, name, value)
        values = None
        if best and state != TrialState.FAIL:
            values = [best.metrics[name] for name in self._objective.values]
        storage.set_trial_state_values(trial, state, values)

    def _state(self, status: str, last: EpochDone | None) -> TrialState:
        """Return Optuna's word for an end.

        A trial whose best epoch is older than the study's patience has shown all there is, and
        counts as complete, so that Optuna's best trial is the one with the highest score. Of
        several objectives all that can be chosen do: one that the scheduler stopped can be on the
        front.
        """
        if last is None or status in ("infeasible", "failed"):
            return TrialState.FAIL
        is_past_its_best = last.epoch - last.best_epoch >= self._patience
        is_whole = status == "finished" or is_past_its_best or self._objective.has_several
        return TrialState.COMPLETE if is_whole else TrialState.PRUNED

    def _awaited_run(self, number: int, at: float) -> str:
        while not (run := self._run_of(number)) and time.monotonic() < at + _RUN_SECONDS:
            time.sleep(0.05)
        return run


def _end_with_a_whole_line(path: Path) -> None:
    """Take away a last line that a crash cut short: Optuna would write on in the midst of it."""
    if path.exists() and not (content := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    return value if isinstance(value, str | int | float | bool) else str(value)
