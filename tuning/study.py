"""A study: one search, from its settings to its record."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from mianet.config import Hyperparameters
from mianet.data import SearchData, paper_hyperparameters
from mianet.datasets import find_dataset
from mianet.errors import InputError
from mianet.protocol import HELDOUT_SHARE, UNSEEN_SHARE
from tuning.algorithms import SAMPLERS, SCHEDULERS, SCORE, StudyScheduler
from tuning.cluster import Share
from tuning.objective import Plan, objective
from tuning.progress import SearchProgress
from tuning.recording import StudyRecorder
from tuning.records import StudyDescription
from tuning.space import contains, describe

MOST_EXECUTIONS = 100
MOST_EPOCHS = 10_000
FEWEST_CLASSES = 3

_TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # each result would be written three more times
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean what they mean to the user
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0, only our own lines are printed
}


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything that decides a search beside its data and its machines.

    Attributes:
        name: The study's name.
        space: Hyperparameter → where its values are drawn from.
        fixed: Hyperparameters that differ from the defaults and are not searched.
        trials: Configurations to try.
        max_epochs: Most epochs of a trial.
        patience: Epochs without a new best mean H after which a trial ends.
        executions: Draws that a configuration is averaged over (5 in section 4.2).
        seed: Seed of the draws, of the trainings and of the sampler.
        sampler: A name of ``SAMPLERS``.
        scheduler: A name of ``SCHEDULERS``.
        time_budget: Seconds after which no more is computed; None for no limit.

    Raises:
        InputError: The settings contradict each other.
    """

    name: str
    space: Mapping[str, BaseDistribution]
    fixed: Mapping[str, Any]
    trials: int
    max_epochs: int
    patience: int
    executions: int
    seed: int
    sampler: str
    scheduler: str
    time_budget: float | None = None

    def __post_init__(self) -> None:
        Hyperparameters.from_mapping(self.fixed)
        both = sorted(set(self.space) & set(self.fixed))
        if both:
            raise InputError(
                f"a hyperparameter is either searched or set, but {', '.join(both)} is both; "
                "leave it out of --set or of --search"
            )
        lists = [n for n, d in self.space.items() if isinstance(d, CategoricalDistribution)]
        if lists and not SAMPLERS[self.sampler].categorical:
            raise InputError(
                f"the sampler {self.sampler} searches numbers only, but {', '.join(lists)} is "
                "chosen from a list; use another --sampler"
            )
        for name, value, most in (
            ("executions", self.executions, MOST_EXECUTIONS),
            ("max-epochs", self.max_epochs, MOST_EPOCHS),
        ):
            if not 1 <= value <= most:
                raise InputError(f"--{name} must be from 1 to {most}, but got {value}")


@dataclass(frozen=True)
class StudyOutcome:
    """How a search ended.

    Attributes:
        counts: Status → number of trials.
        seconds: Wall time.
        interrupted: Whether the user stopped it.
    """

    counts: Mapping[str, int]
    seconds: float
    interrupted: bool


def describe_study(
    study: Study, data: SearchData, source: str, share: Share, cluster: str
) -> StudyDescription:
    """Return what is recorded of a study before its first trial."""
    images, feature_dim = data.features.shape
    seen, attribute_dim = data.class_attributes.shape
    return StudyDescription(
        name=study.name,
        dataset=data.name,
        dataset_title=find_dataset(data.name).spec.title,
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
        },
        settings={
            "sampler": study.sampler,
            "scheduler": study.scheduler,
            "trials": study.trials,
            "max_epochs": study.max_epochs,
            "patience": study.patience,
            "time_budget_seconds": study.time_budget or "none",
            "space": {name: describe(d) for name, d in study.space.items()},
            "fixed": dict(study.fixed),
            "workers": share.workers,
            "cpus_per_trial": share.cpus,
            "gpus_per_trial": share.gpus,
            "cluster": cluster,
        },
        searched=tuple(study.space),
        log_scaled=tuple(n for n, d in study.space.items() if getattr(d, "log", False)),
    )


def check_data(data: SearchData) -> None:
    """Check that the protocol can draw pseudo-unseen classes from the data.

    Raises:
        InputError: There are too few seen classes or images.
    """
    if len(data.class_attributes) < FEWEST_CLASSES:
        raise InputError(
            f"{data.name} must have at least {FEWEST_CLASSES} seen classes to draw pseudo-unseen "
            f"ones from, but has {len(data.class_attributes)}"
        )


def run_study(
    study: Study, data: SearchData, share: Share, recorder: StudyRecorder, storage: Path
) -> StudyOutcome:
    """Run a search on the connected Ray; record it as it goes.

    Args:
        study: What to search.
        data: What to search on.
        share: How trials share the cluster.
        recorder: Where to record; it is left open.
        storage: Folder that Ray Tune keeps its state in.
    """
    settings = base_settings(study, data.name)
    progress = SearchProgress(
        recorder,
        settings,
        paper_point(study, data.name),
        study.sampler,
        study.trials,
        study.max_epochs,
        share.device,
    )
    started = time.monotonic()
    _tuner(study, data, share, progress, storage).fit()
    return StudyOutcome(
        counts=progress.counts,
        seconds=time.monotonic() - started,
        interrupted=_cut_off(study, progress) and not _out_of_time(study, started),
    )


def base_settings(study: Study, dataset: str) -> Hyperparameters:
    """Return the hyperparameters that trials start from: the paper's, and what is fixed."""
    paper = paper_hyperparameters(dataset).as_dict()
    return Hyperparameters.from_mapping({**paper, **study.fixed})


def paper_point(study: Study, dataset: str) -> dict[str, Any]:
    """Return the paper's values of the searched hyperparameters; empty where out of their range."""
    paper = paper_hyperparameters(dataset).as_dict()
    point = {name: paper[name] for name in study.space}
    return point if contains(study.space, point) else {}


def _cut_off(study: Study, progress: SearchProgress) -> bool:
    """Tell whether trials are missing, be it that an interrupt found none of them running."""
    counts = progress.counts
    return counts["interrupted"] > 0 or counts.total() < study.trials


def _out_of_time(study: Study, started: float) -> bool:
    return study.time_budget is not None and time.monotonic() - started >= study.time_budget


def _tuner(
    study: Study, data: SearchData, share: Share, progress: SearchProgress, storage: Path
) -> tune.Tuner:
    plan = Plan(
        epochs=study.max_epochs,
        executions=study.executions,
        seed=study.seed,
        settings=progress.settings,
        threads=share.cpus,
        device=share.device,
    )
    os.environ.update(_TUNE_SETTINGS)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return tune.Tuner(
        tune.with_resources(
            tune.with_parameters(objective, data=data, plan=plan),
            tune.PlacementGroupFactory([share.resources]),
        ),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(
                space=dict(study.space),
                metric=SCORE,
                mode="max",
                sampler=SAMPLERS[study.sampler].build(study.seed),
                points_to_evaluate=[progress.paper] if progress.paper else None,
            ),
            scheduler=StudyScheduler(
                SCHEDULERS[study.scheduler].build(study.max_epochs), study.patience, progress.paper
            ),
            metric=SCORE,
            mode="max",
            num_samples=study.trials,
            max_concurrent_trials=share.workers,
            time_budget_s=study.time_budget,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=study.name, storage_path=str(storage), callbacks=[progress], verbose=0
        ),
    )
