"""Samplers, which propose configurations, and schedulers, which stop hopeless ones early."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

SCORE = "score"
"""The metric that samplers and schedulers maximise: the best mean H of a trial's curve so far."""
BEST_EPOCH = "best_epoch"
"""The epoch of that best, from 1."""
EPOCH = "training_iteration"
"""The fidelity, as Ray Tune names it: epochs finished."""


@dataclass(frozen=True)
class Sampler:
    """How a sampler of Optuna is made.

    Attributes:
        build: Seed → sampler.
        summary: One line for a person.
        categorical: Whether it can search hyperparameters that are chosen from a list.
    """

    build: Callable[[int], BaseSampler]
    summary: str
    categorical: bool = True


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "tpe": Sampler(
            lambda seed: TPESampler(seed=seed, multivariate=True, constant_liar=True),
            "tree-structured Parzen estimator",
        ),
        "gp": Sampler(
            lambda seed: GPSampler(seed=seed, deterministic_objective=False),
            "Gaussian process with expected improvement; slower proposals, fewer trials",
        ),
        "cmaes": Sampler(
            lambda seed: CmaEsSampler(seed=seed),
            "covariance matrix adaptation; wants many trials",
            categorical=False,
        ),
        "qmc": Sampler(
            lambda seed: QMCSampler(seed=seed, scramble=True),
            "scrambled Sobol points: random search without clumps",
        ),
        "random": Sampler(lambda seed: RandomSampler(seed=seed), "independent random points"),
    }
)
"""Samplers: name → how it is made."""


@dataclass(frozen=True)
class Scheduler:
    """How a scheduler of Ray Tune is made.

    Attributes:
        build: Most epochs of a trial → scheduler.
        summary: One line for a person.
    """

    build: Callable[[int], TrialScheduler]
    summary: str


def _asha(max_epochs: int) -> TrialScheduler:
    return ASHAScheduler(
        time_attr=EPOCH,
        max_t=max_epochs,
        grace_period=max(1, min(max_epochs, round(max_epochs / 9))),
        reduction_factor=3,
    )


def _median(max_epochs: int) -> TrialScheduler:
    return MedianStoppingRule(
        time_attr=EPOCH,
        grace_period=max(1, max_epochs // 4),
        min_samples_required=3,
        min_time_slice=max_epochs,  # never pauses a trial to let another one catch up
    )


SCHEDULERS: Mapping[str, Scheduler] = MappingProxyType(
    {
        "asha": Scheduler(_asha, "successive halving: a third goes on at each rung"),
        "median": Scheduler(_median, "stops what is below the median of the others"),
        "none": Scheduler(lambda max_epochs: FIFOScheduler(), "every trial runs all its epochs"),
    }
)
"""Schedulers: name → how it is made."""


class StudyScheduler(FIFOScheduler):
    """Adds two rules of ours to a scheduler of Ray Tune.

    A trial whose best epoch is old is stopped (patience): H rises, then falls. And one
    configuration, the paper's, is let run to its end whatever is said of it: it is what a search
    is compared with, so its curve must be whole. The scheduler inside sees its results, and judges
    the others by them, until it would stop it; what it has stopped it must not hear of again.

    Args:
        inner: The scheduler that judges first.
        patience: Epochs without a new best after which a trial is stopped.
        spared: The configuration that is never stopped.
    """

    def __init__(self, inner: TrialScheduler, patience: int, spared: Mapping[str, Any]) -> None:
        super().__init__()
        self.inner = inner
        self.patience = patience
        self.spared = dict(spared)
        self.overruled: set[str] = set()

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Pass on what is maximised."""
        self._metric = metric
        return bool(self.inner.set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Pass on."""
        self.inner.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Pass on."""
        self.inner.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ask the scheduler inside, then apply the two rules."""
        go_on, stop = str(TrialScheduler.CONTINUE), str(TrialScheduler.STOP)
        if trial.trial_id in self.overruled:
            return go_on
        decision = str(self.inner.on_trial_result(tune_controller, trial, result))
        if trial.config == self.spared:
            if decision == stop:
                self.overruled.add(trial.trial_id)
            return go_on
        stale = result[EPOCH] - result[BEST_EPOCH]
        return stop if stale >= self.patience else decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Pass on."""
        self.inner.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Pass on."""
        self.inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Pass on."""
        return self.inner.choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        """Pass on."""
        return str(self.inner.debug_string())
