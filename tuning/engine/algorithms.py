"""Samplers, which propose configurations, and schedulers, which stop hopeless ones early."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from tuning.events.ledger import EpochDone, Event, Proposed
from tuning.spec.records import PAPER

SCORE = "score"
"""The metric that schedulers maximise: the best of a trial's curve so far, see ``objectives``."""
BEST_EPOCH = "best_epoch"
"""The epoch of that best, from 1."""
EPOCH = "epoch"
"""The fidelity: epochs finished, from 1. Ray's own count begins again with each process."""
METRICS = "metrics"
"""In a result: pairs of name and value, all that is recorded of the epoch. Not a mapping: Ray Tune
would keep averages of each figure for each trial, 100 kB of them."""
INFEASIBLE = "infeasible"
"""In a result: why its configuration diverged."""
BROKEN = "broken"
"""In a result: the error that ends its trial."""

NUMBER = "number"
"""In what Ray Tune hands to a worker: the trial's number in the study."""
CONFIGURATION = "hyperparameters"
"""In what Ray Tune hands to a worker: the searched hyperparameters."""


@dataclass(frozen=True)
class Sampler:
    """How a sampler of Optuna is made.

    Attributes:
        build: Seed → sampler.
        summary: One line for a person.
        categorical: Whether it can search hyperparameters that are chosen from a list.
        several: Whether it can maximise several objectives at once.
    """

    build: Callable[[int], BaseSampler]
    summary: str
    categorical: bool = True
    several: bool = True


class _Sobol(QMCSampler):
    """Optuna's, which looks through all trials for the space of the first at each proposal."""

    _found: Mapping[str, BaseDistribution] = MappingProxyType({})

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the space, which stays what it is once it has been found."""
        if not self._found:
            self._found = super().infer_relative_search_space(study, trial)
        return dict(self._found)


MOST_FITTED = 2_000
"""To how many trials, the newest, Parzen estimators are fitted, beside the best ones."""
_MOST_GOOD = 25
"""How many Optuna's TPE takes for the good ones at most; all else is what they differ from."""


class _Fitted(optuna.Study):
    """A study of which only the given trials and the newest are seen."""

    def __init__(self, study: optuna.Study, numbers: Iterable[int]) -> None:
        self.__dict__.update(study.__dict__)
        self._numbers = sorted(numbers)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        trials = super()._get_trials(deepcopy=False)
        first = max(0, len(trials) - MOST_FITTED)
        seen = [*(trials[n] for n in self._numbers if n < first), *trials[first:]]
        return [trial for trial in seen if states is None or trial.state in states]


class _Parzen(TPESampler):
    """Optuna's, which fits all trials of a study for each proposal: 7 ms for every 1,000 of them.

    The good ones are always the same as Optuna's; of the others, which say where trials have been
    rather than where they were good, the newest do. With several objectives the good ones are a
    tenth of all, so all are fitted.
    """

    _good: list[tuple[float, int]] | None = None
    """The best values, each with minus its trial's number: of equal ones the older counts."""

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return what is proposed, from the good trials and the newest."""
        if len(study.directions) > 1:
            return super().sample_relative(study, trial, search_space)
        if self._good is None:
            complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            self._good = heapq.nlargest(_MOST_GOOD, map(_merit, complete))
            heapq.heapify(self._good)
        good = _Fitted(study, (-minus for _, minus in self._good))
        return super().sample_relative(good, trial, search_space)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Learn whether a trial is among the good ones."""
        super().after_trial(study, trial, state, values)
        if self._good is not None and state == TrialState.COMPLETE and values:
            heapq.heappush(self._good, (values[0], -trial.number))
            if len(self._good) > _MOST_GOOD:
                heapq.heappop(self._good)


def _merit(trial: FrozenTrial) -> tuple[float, int]:
    return trial.values[0], -trial.number


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "tpe": Sampler(
            lambda seed: _Parzen(seed=seed, multivariate=True, constant_liar=True),
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
            several=False,
        ),
        "nsga2": Sampler(
            lambda seed: NSGAIISampler(seed=seed, population_size=16),
            "evolution by NSGA-II, made for several objectives; wants many trials",
        ),
        "qmc": Sampler(
            lambda seed: _Sobol(seed=seed, scramble=True),
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


@dataclass(eq=False)
class _Judged:
    """A trial as the scheduler inside sees it: one object a trial, whichever process runs it."""

    trial_id: str
    config: Mapping[str, Any]
    live: Any = None
    last: Mapping[str, Any] = field(default_factory=dict)
    overruled: bool = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked while it is copied, before it has any attribute
            raise AttributeError(name)
        return getattr(self.live, name)


class _NobodyElse:
    """Stands for Ray Tune while the past is told: there is nobody who could be paused."""

    def get_trials(self) -> list[Any]:
        return []

    def get_live_trials(self) -> list[Any]:
        return []


_PAST = _NobodyElse()
_CONTINUE, _STOP = str(TrialScheduler.CONTINUE), str(TrialScheduler.STOP)


class StudyScheduler(FIFOScheduler):
    """Adds rules of ours to a scheduler of Ray Tune.

    A trial whose best epoch is old is stopped (patience): H rises, then falls. And one trial, the
    paper's configuration, is stopped by nothing else: it is what a search is compared with, so no
    other trial decides how far it comes. The scheduler inside sees its results, and judges the
    others by them, until it would stop it; what it has stopped it must not hear of again.

    A trial that begins again after its process died, or the driver's, repeats epochs; the
    scheduler inside hears each once. So it can be told of the past (``take``) and then go on.

    Args:
        inner: The scheduler that judges first.
        patience: Epochs without a new best after which a trial is stopped.
        spared: Number of the trial that only patience stops; None for none.
    """

    def __init__(self, inner: TrialScheduler, patience: int, spared: int | None = None) -> None:
        super().__init__()
        self.inner = inner
        self.patience = patience
        self.spared = spared
        self.stopped: set[int] = set()
        self._judged: dict[int, _Judged] = {}
        inner.set_search_properties(SCORE, "max")

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Accept what is maximised; it is known."""
        return True

    def take(self, event: Event) -> None:
        """Learn what happened before this process; ``stopped`` says whom it would have ended."""
        if isinstance(event, Proposed):
            if event.origin == PAPER:
                self.spared = event.number
            self._add(_PAST, event.number, event.configuration)
        elif isinstance(event, EpochDone):
            result = {EPOCH: event.epoch, SCORE: event.score, BEST_EPOCH: event.best_epoch}
            self._decide(_PAST, event.number, result)
        elif event.status != "failed":
            self._end(_PAST, event.number)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Pass on, the first time."""
        self._add(tune_controller, trial.config[NUMBER], trial.config[CONFIGURATION]).live = trial

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Say nothing: the trial may begin again, and if not, no rule waits for it."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ask the scheduler inside, then apply the rules."""
        if INFEASIBLE in result:
            return _STOP
        if BROKEN in result:
            return _CONTINUE  # to the error that follows
        return self._decide(tune_controller, trial.config[NUMBER], result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Pass on."""
        self._end(tune_controller, trial.config[NUMBER])

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Pass on."""
        self.inner.on_trial_remove(tune_controller, self._judged[trial.config[NUMBER]])

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the trial that waits and was proposed first, if any; none of ours pauses.

        Ray Tune's own schedulers look through all trials of the study for it, at each event.
        """
        waiting = [t for t in tune_controller.get_live_trials() if t.status == Trial.PENDING]
        return min(waiting, key=lambda trial: int(trial.config[NUMBER]), default=None)

    def debug_string(self) -> str:
        """Pass on."""
        return str(self.inner.debug_string())

    def _add(self, controller: Any, number: int, configuration: Mapping[str, Any]) -> _Judged:
        if number not in self._judged:
            self._judged[number] = _Judged(str(number), configuration)
            self.inner.on_trial_add(controller, self._judged[number])
        return self._judged[number]

    def _decide(self, controller: Any, number: int, result: Mapping[str, Any]) -> str:
        judged = self._judged[number]
        if result[EPOCH] <= judged.last.get(EPOCH, 0):
            return _CONTINUE
        judged.last = result
        decision = self._judgement(controller, judged, result, spared=number == self.spared)
        if decision == _STOP or result[EPOCH] - result[BEST_EPOCH] >= self.patience:
            self.stopped.add(number)
            return _STOP
        return decision

    def _judgement(
        self, controller: Any, judged: _Judged, result: Mapping[str, Any], *, spared: bool
    ) -> str:
        """Return what the scheduler inside says; of a trial that is spared, to go on."""
        if judged.overruled:
            return _CONTINUE
        decision = str(self.inner.on_trial_result(controller, judged, result))
        judged.overruled = spared and decision == _STOP
        return _CONTINUE if spared else decision

    def _end(self, controller: Any, number: int) -> None:
        judged = self._judged[number]
        if judged.last:
            self.inner.on_trial_complete(controller, judged, judged.last)
