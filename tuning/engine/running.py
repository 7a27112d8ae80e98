"""Running a study on Ray: its parts, and Ray Tune among them."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.execution import class_cache

from mianet.config import Settings
from mianet.data.datasets import find_dataset
from mianet.data.search_data import SearchData
from mianet.protocol import HELDOUT_SHARE, UNSEEN_SHARE
from tuning.compute.cluster import Share
from tuning.compute.display import Display
from tuning.compute.gpu_share import largest_of
from tuning.compute.pace import Pace
from tuning.engine import deaths
from tuning.engine.checkpoints import remove_checkpoint
from tuning.engine.interrupts import Interrupt
from tuning.engine.progress import Listener, Publisher, SearchProgress, well_ended
from tuning.engine.results import SCORE, WHOLE_GPU
from tuning.engine.searcher import Proposer, StudySearcher
from tuning.engine.stopping import SCHEDULERS, Stopping
from tuning.engine.study import Study, base_settings, paper_point
from tuning.engine.trial import Plan, objective
from tuning.engine.tune_scheduler import StoppingScheduler
from tuning.events.event import Closed, Ended, Event, Proposed
from tuning.events.log import EventLog
from tuning.events.state import State
from tuning.spec.records import StudyDescription

PAPER_AT = 8
"""How many trials begin before the paper's configuration, which no other trial stops: on few
workers it would keep a search from looking around first."""
MOST_RETRIES = 2
"""How often a trial whose worker died is tried again."""

_TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # each result would be written three more times
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0, only our own lines are printed
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Interrupt watches
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",  # its state grows with the study, and nobody reads it
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # SearchProgress tells them apart
}


@dataclass(frozen=True)
class StudyOutcome:
    """How a search ended.

    Attributes:
        counts: Status → number of trials.
        seconds: Wall time.
        interrupted: Whether the user or the machine stopped it.
        out_of_time: Whether its time budget is used up.
        nothing_tried: Whether all its trials had ended before.
    """

    counts: Mapping[str, int]
    seconds: float
    interrupted: bool
    out_of_time: bool = False
    nothing_tried: bool = False


def describe_study(
    study: Study, data: SearchData, source: str, share: Share, cluster: str
) -> StudyDescription:
    """Return what is recorded of a study before its first trial.

    Args:
        study: The study.
        data: What it searches on.
        source: Where that came from.
        share: What each trial gets.
        cluster: The cluster, in words.
    """
    images, feature_dim = data.features.shape
    seen, attribute_dim = data.class_attributes.shape
    return StudyDescription(
        name=study.name,
        dataset=data.name,
        dataset_title=find_dataset(data.name).title,
        data_digest=data.digest,
        data_source=source,
        data_shape={
            "rows": images,
            "feature_dim": feature_dim,
            "attribute_dim": attribute_dim,
            "seen_classes": seen,
        },
        protocol={
            "executions": study.executions,
            "seed": study.seed,
            "unseen_share": UNSEEN_SHARE,
            "heldout_share": HELDOUT_SHARE,
            **({"class_embedding": data.class_embedding} if data.class_embedding else {}),
        },
        settings={
            "model": study.model,
            "sampler": study.sampler,
            "scheduler": study.scheduler,
            "trials": study.trials,
            "max_epochs": study.max_epochs,
            "patience": study.patience,
            "time_budget_seconds": study.time_budget or "none",
            "fixed": dict(study.fixed),
            **({"warm_start": ", ".join(p.origin for p in study.warm)} if study.warm else {}),
            **data.provenance,
            "workers": share.workers,
            "cpus_per_trial": share.cpus,
            "gpus_per_trial": share.gpus,
            "cluster": cluster,
        },
        space=study.space,
        objective=study.objective,
    )


def run_study(
    study: Study,
    dataset: str,
    data: ray.ObjectRef,
    share: Share,
    log: EventLog,
    interrupt: Interrupt,
    display: Display,
    listeners: Sequence[Listener] = (),
) -> StudyOutcome:
    """Run a search, or what is left of it, on the connected Ray; log it as it goes.

    All who take part are first told what the log knows. So they stand where they stood when the
    last process ended, however that was, and go on from there.

    Args:
        study: What to search.
        dataset: What it is searched on.
        data: Its ``SearchData``, in Ray's object store: one copy a node.
        share: How trials share the cluster.
        log: What happened so far, this process's opening last; it is closed at the end. Its folder
            also keeps checkpoints and Ray Tune's own state.
        interrupt: Says when to stop.
        display: Where a person follows the search.
        listeners: Who is told of all that happens, beside those who take part.
    """
    started, seconds_before = time.monotonic(), log.state.seconds
    _quieten()
    _take_started_workers()
    parts = _parts(study, dataset, log, listeners)
    publisher = _catch_up(study, parts)
    counts = log.state.counts
    left = _Left(
        trials=study.trials - counts.total() + counts["running"],
        seconds=study.time_budget and study.time_budget - seconds_before,
    )
    if left.trials > 0 and (left.seconds is None or left.seconds > 0):
        with deaths.for_want_of_memory():
            _tuner(study, data, share, parts, publisher, left, interrupt, display).fit()
    counts = log.state.counts
    counts["interrupted"] = counts.pop("running", 0)
    log.append(Closed("interrupted" if interrupt.asked else "finished"))
    seconds = time.monotonic() - started
    return StudyOutcome(
        counts=+counts,
        seconds=seconds,
        interrupted=interrupt.asked,
        out_of_time=left.seconds is not None and seconds >= left.seconds,
        nothing_tried=left.trials == 0,
    )


@dataclass(frozen=True)
class _Parts:
    """Who takes part in a search, beside Ray Tune."""

    settings: Settings
    log: EventLog
    proposer: Proposer
    stopping: Stopping
    others: Sequence[Listener]

    @property
    def state(self) -> State:
        return self.log.state

    @property
    def checkpoints(self) -> Path:
        return self.log.folder / "checkpoints"

    @property
    def listeners(self) -> list[Listener]:
        return [
            self.proposer.take,
            self.stopping.take,
            self.clean_up,
            *self.others,
        ]

    def clean_up(self, event: Event) -> None:
        """Remove the checkpoint of a trial that ended."""
        if isinstance(event, Ended):
            remove_checkpoint(self.checkpoints, event.number)


@dataclass(frozen=True)
class _Left:
    """What is left of the budget: trials to end, and seconds if they are limited."""

    trials: int
    seconds: float | None


def _parts(
    study: Study,
    dataset: str,
    log: EventLog,
    others: Sequence[Listener],
) -> _Parts:
    paper = paper_point(study, dataset)
    settings = base_settings(study, dataset)
    proposer = Proposer(
        study.space,
        sampler=study.sampler,
        seed=study.seed,
        paper=paper,
        paper_at=min(PAPER_AT, study.trials - 1),
        objective=study.goal,
        warm=study.warm,
    )
    return _Parts(
        settings=settings,
        log=log,
        proposer=proposer,
        stopping=Stopping(
            SCHEDULERS[study.scheduler](study.max_epochs),
            study.patience,
            spared=proposer.paper_at,
        ),
        others=others,
    )


def _catch_up(study: Study, parts: _Parts) -> Publisher:
    """Tell all of the past; end the trials that were at their end when the last process ended."""
    publisher = Publisher(parts.log, parts.listeners)
    publisher.replay()
    for trial in parts.state.running:
        if trial.epoch >= study.max_epochs or trial.number in parts.stopping.stopped:
            publisher.publish(Ended(trial.number, *well_ended(trial, study.max_epochs)))
    return publisher


def _tuner(
    study: Study,
    data: ray.ObjectRef,
    share: Share,
    parts: _Parts,
    publisher: Publisher,
    left: _Left,
    interrupt: Interrupt,
    display: Display,
) -> tune.Tuner:
    def propose() -> Proposed | None:
        if len(parts.state.trials) >= study.trials:
            return None
        proposed = parts.proposer.propose()
        publisher.publish(proposed)
        return proposed

    unfinished = [trial.proposed for trial in parts.state.running]
    searcher = StudySearcher(unfinished, propose, lambda: bool(parts.state.running))
    progress = SearchProgress(
        publisher.publish,
        parts.state,
        study.trials,
        study.max_epochs,
        searcher,
        MOST_RETRIES,
        display,
        Pace(share.workers),
        left.seconds,
        symbol=study.goal.symbol,
    )
    return tune.Tuner(
        tune.with_resources(
            tune.with_parameters(objective, data=data, plan=_plan(study, share, parts)),
            _resources(share),
        ),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=StoppingScheduler(parts.stopping),
            metric=SCORE,
            mode="max",
            num_samples=-1,  # the searcher says when it is over
            max_concurrent_trials=share.workers,
            time_budget_s=left.seconds,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(parts.log.folder),
            callbacks=[progress],
            stop=interrupt,
            verbose=0,
        ),
    )


def _resources(share: Share) -> Callable[[Mapping[str, Any]], tune.PlacementGroupFactory]:
    """Return what a trial gets by what it is handed."""

    def of(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        whole = {"GPU": 1.0} if config.get(WHOLE_GPU) else {}
        return tune.PlacementGroupFactory([{**share.resources, **whole}])

    return of


def _plan(study: Study, share: Share, parts: _Parts) -> Plan:
    return Plan(
        epochs=study.max_epochs,
        executions=study.executions,
        seed=study.seed,
        settings=parts.settings,
        threads=share.threads,
        gpus=share.gpus,
        device=share.device,
        checkpoints=parts.checkpoints,
        objective=study.goal,
    )


def _quieten() -> None:
    """Let nobody but us print."""
    os.environ.update(_TUNE_SETTINGS)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def _take_started_workers() -> None:
    """Have trials run in the workers that Ray has started, which may have loaded what trials need.

    Tune sets environment variables for its trials, for which Ray starts further processes: one that
    only PyTorch Lightning reads, and one that ``trial`` sets itself.
    """
    class_cache.DEFAULT_ENV_VARS.clear()
    class_cache.ENV_VARS_TO_PROPAGATE.discard("RAY_CHDIR_TO_TRIAL_DIR")


def largest_settings(study: Study, dataset: str) -> Settings:
    """Return the settings of the largest model that can be proposed."""
    return largest_of(base_settings(study, dataset), study.space)
