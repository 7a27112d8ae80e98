"""Run a study on Ray: connect Ray Tune with the other parts of a search."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
import ray
from ray import tune
from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController

from tuning.compute.cluster import Share
from tuning.compute.display import StatusLine
from tuning.engine.checkpoints import remove_checkpoint
from tuning.engine.interrupts import Interrupt
from tuning.engine.progress import SearchProgress, end_status
from tuning.engine.results import KEPT_BYTES, WHOLE_GPU
from tuning.engine.searcher import Proposer, StudySearcher
from tuning.engine.stopping import SCHEDULERS, Stopping
from tuning.engine.study import Study, base_settings, paper_point
from tuning.engine.trial import Plan, objective
from tuning.engine.tune_scheduler import StoppingScheduler
from tuning.events.event import Closed, Ended, Event, Proposed
from tuning.events.log import EventLog

Listener = Callable[[Event], None]

PAPER_AT = 8
"""How many trials start before the paper's configuration, which no other trial can stop: with few
workers, starting it first would delay the exploration."""

MOST_KEPT_BYTES = 2**30
"""A worker whose process has kept more than this of earlier trials is replaced by a new one."""

_TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # they would write each result three more times
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0, only our own lines are printed
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Interrupt handles it
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",  # its state grows with the study, and nothing reads it
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # SearchProgress distinguishes them
}


@dataclass(frozen=True)
class StudyOutcome:
    """How a search ended."""

    counts: Mapping[str, int]  # status → number of trials
    seconds: float
    interrupted: bool  # by the user or the machine
    out_of_time: bool
    nothing_tried: bool  # all its trials had already ended


def run_study(
    study: Study,
    dataset: str,
    data: ray.ObjectRef,
    share: Share,
    log: EventLog,
    interrupt: Interrupt,
    display: StatusLine,
    listeners: Sequence[Listener] = (),
) -> StudyOutcome:
    """Run a search, or what is left of it, on the connected Ray; log it as it goes.

    First, all components replay the log. So they resume from the state in which the last process
    left them, however it ended.

    Args:
        study: What to search.
        dataset: What it is searched on.
        data: Its ``SearchData``, in Ray's object store: one copy per node.
        share: How trials share the cluster.
        log: What happened so far, this process's opening last; it is closed at the end. Its folder
            also holds checkpoints and Ray Tune's own state.
        interrupt: Says when to stop.
        display: Where progress is shown.
        listeners: What else is called with every event, besides the search's own components.
    """
    started = time.monotonic()
    budget = study.time_budget and study.time_budget - log.state.seconds
    _silence_ray_and_optuna()
    _reuse_started_workers()
    search = _Search(study, dataset, log, listeners)
    search.replay()
    to_try = study.trials - len(log.state.trials) + len(log.state.running)
    if to_try > 0 and (budget is None or budget > 0):
        plan = Plan(study, base_settings(study, dataset), share, log.folder / "checkpoints")
        with _tolerating_out_of_memory(), _replacing_grown_workers():
            _tuner(search, data, plan, budget, interrupt, display).fit()
    counts = log.state.counts
    counts["interrupted"] = counts.pop("running", 0)
    log.append(Closed("interrupted" if interrupt.requested else "finished"))
    seconds = time.monotonic() - started
    return StudyOutcome(
        counts=+counts,
        seconds=seconds,
        interrupted=interrupt.requested,
        out_of_time=budget is not None and seconds >= budget,
        nothing_tried=to_try == 0,
    )


class _Search:
    """The components of a search, besides Ray Tune; each event reaches them after the log."""

    def __init__(
        self, study: Study, dataset: str, log: EventLog, listeners: Sequence[Listener]
    ) -> None:
        self.study = study
        self.log = log
        self.proposer = Proposer(
            study.space,
            sampler=study.sampler,
            seed=study.seed,
            paper=paper_point(study, dataset),
            paper_at=min(PAPER_AT, study.trials - 1),
            objective=study.goal,
            warm=study.warm,
        )
        rule = SCHEDULERS[study.scheduler](study.max_epochs)
        self.stopping = Stopping(rule, study.patience, exempt=self.proposer.paper_at)
        self._listeners = (self.proposer.handle, self.stopping.handle, self._clean_up, *listeners)

    def replay(self) -> None:
        """Replay all past events; end the trials that were due to end when the process did."""
        for event, _ in self.log.read():
            self._notify(event)
        for trial in self.log.state.running:
            if trial.epoch >= self.study.max_epochs or trial.number in self.stopping.stopped:
                self.publish(Ended(trial.number, *end_status(trial, self.study.max_epochs)))

    def publish(self, event: Event) -> None:
        """Append an event to the log and tell the listeners."""
        self.log.append(event)
        self._notify(event)

    def propose(self) -> Proposed | None:
        """Return a new proposal, after publishing it; None when the budget is used up."""
        if len(self.log.state.trials) >= self.study.trials:
            return None
        proposed = self.proposer.propose()
        self.publish(proposed)
        return proposed

    def _notify(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def _clean_up(self, event: Event) -> None:
        if isinstance(event, Ended):
            remove_checkpoint(self.log.folder / "checkpoints", event.number)


def _tuner(
    search: _Search,
    data: ray.ObjectRef,
    plan: Plan,
    seconds: float | None,
    interrupt: Interrupt,
    display: StatusLine,
) -> tune.Tuner:
    state, workers = search.log.state, plan.share.workers
    unfinished = [trial.proposed for trial in state.running]
    searcher = StudySearcher(unfinished, search.propose, lambda: bool(state.running))
    progress = SearchProgress(
        search.publish, state, search.study, searcher, display, workers, seconds
    )

    def resources(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        whole = {"GPU": 1.0} if config.get(WHOLE_GPU) else {}
        return tune.PlacementGroupFactory([{**plan.share.resources, **whole}])

    return tune.Tuner(
        tune.with_resources(tune.with_parameters(objective, data=data, plan=plan), resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=StoppingScheduler(search.stopping),
            num_samples=-1,  # the searcher decides when the search is over
            max_concurrent_trials=workers,
            time_budget_s=seconds,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(search.log.folder),
            callbacks=[progress],
            stop=interrupt,
            verbose=0,
        ),
    )


def _silence_ray_and_optuna() -> None:
    """Silence Ray and Optuna."""
    os.environ.update(_TUNE_SETTINGS)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def _reuse_started_workers() -> None:
    """Run trials in workers that Ray has already started, which may have loaded what trials need.

    Tune sets environment variables for its trials, which makes Ray start more processes: one that
    only PyTorch Lightning reads, and one that ``trial`` sets itself.
    """
    class_cache.DEFAULT_ENV_VARS.clear()
    class_cache.ENV_VARS_TO_PROPAGATE.discard("RAY_CHDIR_TO_TRIAL_DIR")


def _tolerating_out_of_memory() -> AbstractContextManager[None]:
    """Make Ray Tune treat a worker that is killed for lack of memory as one that died.

    Ray kills workers on a node whose memory is nearly full, and reports it by an error that is not
    a ``RayActorError``. Ray Tune expects no other error of an actor: it ends the whole search.
    """
    original = RayActorManager._actor_task_failed

    def failed(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        original(manager, tracked_actor_task, exception)

    return _replaced(RayActorManager, "_actor_task_failed", failed)


def _replacing_grown_workers() -> AbstractContextManager[None]:
    """Make Ray Tune end a worker after a trial if its process has grown by too much.

    Otherwise a worker goes from trial to trial, and each leaves what libraries keep for its shapes.
    """
    original = TuneController._maybe_cache_trial_actor

    def keep(controller: Any, trial: Any) -> bool:
        grown = trial.last_result.get(KEPT_BYTES, 0) > MOST_KEPT_BYTES
        return not grown and original(controller, trial)

    return _replaced(TuneController, "_maybe_cache_trial_actor", keep)


@contextmanager
def _replaced(owner: type, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """Give a class another method, as long as the context lasts."""
    original = getattr(owner, name)
    setattr(owner, name, method)
    try:
        yield
    finally:
        setattr(owner, name, original)
