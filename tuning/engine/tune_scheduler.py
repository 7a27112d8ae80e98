"""A study's stopping rules behind Ray Tune's scheduler interface."""

from __future__ import annotations

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tuning.engine.results import BROKEN, INFEASIBLE, NUMBER, as_event
from tuning.engine.stopping import Stopping


class StoppingScheduler(FIFOScheduler):
    """Stops trials as ``Stopping`` says, which follows published events, not these results."""

    def __init__(self, stopping: Stopping) -> None:
        super().__init__()
        self._stopping = stopping

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if BROKEN in result:  # the error that follows ends the trial
            return str(TrialScheduler.CONTINUE)
        stop = INFEASIBLE in result or self._stopping.should_stop(as_event(trial, result))
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the waiting trial that was proposed first, if any.

        Ray Tune's own schedulers look through all trials of the study, at each event.
        """
        waiting = [t for t in tune_controller.get_live_trials() if t.status == Trial.PENDING]
        return min(waiting, key=lambda trial: int(trial.config[NUMBER]), default=None)
