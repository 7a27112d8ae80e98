"""What happens in a running search, told to the record and to the terminal."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.tune import Callback

from mianet.config import Hyperparameters
from tuning.algorithms import BEST_EPOCH, EPOCH, SCORE
from tuning.recording import StudyRecorder
from tuning.records import PAPER

HEARTBEAT_SECONDS = 10.0
"""The terminal is never quiet for longer than this."""


@dataclass
class Standing:
    """A trial as the driver sees it.

    Attributes:
        number: From 0, in the order of their proposals.
        config: Its searched hyperparameters.
        status: ``running``, or how it ended.
        epoch: Epochs reported.
        score: Best mean H so far.
        best_epoch: Where that was.
    """

    number: int
    config: Mapping[str, Any]
    status: str = "running"
    epoch: int = 0
    score: float = math.nan
    best_epoch: int = 0


@dataclass
class SearchProgress(Callback):
    """Passes every event of Ray Tune on to the recorder and prints a line for a person.

    Attributes:
        recorder: Where the study is recorded.
        settings: The hyperparameters that are not searched.
        paper: The searched values of the paper's configuration.
        sampler: Name of the sampler, recorded as the origin of all other trials.
        trials: Trials of the budget.
        max_epochs: Most epochs of a trial.
        device: Where trials train.
    """

    recorder: StudyRecorder
    settings: Hyperparameters
    paper: Mapping[str, Any]
    sampler: str
    trials: int
    max_epochs: int
    device: str
    numbers: dict[str, int] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    last_line: float = field(default_factory=time.monotonic)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the recorder out: Ray Tune pickles its callbacks, and connections cannot be."""
        return {**self.__dict__, "recorder": None}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial that starts."""
        if trial.trial_id in self.standings:
            return
        # Numbered as proposed: which of two workers is ready first is chance.
        for proposed in trials[len(self.numbers) :]:
            self.numbers[proposed.trial_id] = len(self.numbers)
        standing = Standing(self.numbers[trial.trial_id], dict(trial.config))
        self.standings[trial.trial_id] = standing
        self.recorder.trial_started(
            trial.trial_id,
            standing.number,
            self.settings.replace(**trial.config).as_dict(),
            origin=PAPER if standing.config == self.paper else self.sampler,
            device=self.device,
        )

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Any],
        trial: Any,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Record an epoch."""
        standing = self.standings[trial.trial_id]
        standing.epoch = int(result[EPOCH])
        standing.score, standing.best_epoch = float(result[SCORE]), int(result[BEST_EPOCH])
        metrics = {k: v for k, v in result.items() if k.startswith(("val_", "loss_"))}
        if metrics:
            self.recorder.epoch_finished(trial.trial_id, standing.epoch, metrics)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record how a trial ended."""
        standing = self.standings.get(trial.trial_id)
        if standing is None:
            return
        infeasible = (trial.last_result or {}).get("infeasible", "")
        if infeasible:
            self._end(trial, "infeasible", infeasible)
        elif standing.epoch < self.max_epochs:
            stale = standing.epoch - standing.best_epoch
            self._end(
                trial,
                "stopped_early",
                f"stopped after epoch {standing.epoch}, {stale} epochs after its best",
            )
        else:
            self._end(trial, "finished", "")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial that broke, maybe before it began."""
        self.on_trial_start(iteration, trials, trial)
        self._end(trial, "failed", _reason(trial))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Give a sign of life."""
        if time.monotonic() - self.last_line >= HEARTBEAT_SECONDS:
            running = [s for s in self.standings.values() if s.status == "running"]
            now = ", ".join(
                f"trial {s.number} epoch {s.epoch}/{self.max_epochs}" for s in running[:4]
            )
            more = f" and {len(running) - 4} more" if len(running) > 4 else ""
            self._say(f"running: {now or 'waiting for workers'}{more}{self._best_words()}")

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Record the trials that were cut off, by a time budget or by the user."""
        for trial in trials:
            standing = self.standings.get(trial.trial_id)
            if standing is not None and standing.status == "running":
                self._end(trial, "interrupted", f"cut off after epoch {standing.epoch}")

    @property
    def counts(self) -> Counter[str]:
        """Return how many trials have each status."""
        return Counter(standing.status for standing in self.standings.values())

    def best(self) -> Standing | None:
        """Return the best trial so far, of those that did not diverge or break."""
        scored = [
            s
            for s in self.standings.values()
            if s.status not in ("infeasible", "failed") and math.isfinite(s.score)
        ]
        return max(scored, key=lambda s: s.score, default=None)

    def _end(self, trial: Any, status: str, reason: str) -> None:
        standing = self.standings[trial.trial_id]
        if standing.status != "running":
            return
        standing.status = status
        self.recorder.trial_ended(trial.trial_id, status, reason=reason)
        done = len(self.standings) - self.counts["running"]
        name = f"trial {standing.number}" + (" (paper)" if standing.config == self.paper else "")
        outcome = (
            f"H {100 * standing.score:5.2f} at epoch {standing.best_epoch}"
            if status in ("finished", "stopped_early") and standing.best_epoch
            else reason
        )
        self._say(
            f"{done}/{self.trials} {name} {status.replace('_', ' ')} "
            f"after {standing.epoch} epochs: {outcome}{self._best_words()}"
        )

    def _best_words(self) -> str:
        best = self.best()
        return f" | best H {100 * best.score:.2f} (trial {best.number})" if best else ""

    def _say(self, line: str) -> None:
        self.last_line = time.monotonic()
        seconds = int(self.last_line - self.started)
        print(f"[{seconds // 60:3d}:{seconds % 60:02d}] {line}", flush=True)


def _reason(trial: Any) -> str:
    """Return why a trial broke in one line: the last of a traceback, else the first.

    Ray Tune has just written the error below a heading; it copies the file to the study's storage
    only later.
    """
    try:
        _, *lines = Path(trial.error_file).read_text(errors="replace").splitlines()
    except (OSError, TypeError, ValueError):
        return "unknown error"
    told = [line.strip() for line in lines if line.strip()] or ["unknown error"]
    return told[-1 if any("Traceback" in line for line in told) else 0]
