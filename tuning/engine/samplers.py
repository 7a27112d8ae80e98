"""Optuna's samplers, which propose configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna import Study
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
from optuna.trial import FrozenTrial


class SobolThenTPE(TPESampler):
    """TPE that starts with scrambled Sobol points instead of random ones.

    Until ten trials have ended, proposals are those of ``QMCSampler``, in its order of the
    hyperparameters: another order would mix two sequences.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed, multivariate=True)
        self._sobol = QMCSampler(seed=seed, scramble=True)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the hyperparameters of earlier trials, whether or not one has ended."""
        return self._sobol.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return TPE's proposal; before it makes any, the next Sobol point."""
        proposal = super().sample_relative(study, trial, search_space)
        return proposal or self._sobol.sample_relative(study, trial, search_space)


@dataclass(frozen=True)
class Sampler:
    """How an Optuna sampler is built."""

    build: Callable[[int], BaseSampler]  # seed → sampler
    categorical: bool = True  # whether it can search categorical hyperparameters
    multi_objective: bool = True  # whether it can maximise several objectives at once


SAMPLERS: Mapping[str, Sampler] = {
    "tpe": Sampler(SobolThenTPE),
    # Slow to propose; suits studies of few trials.
    "gp": Sampler(lambda seed: GPSampler(seed=seed, deterministic_objective=False)),
    "cmaes": Sampler(
        lambda seed: CmaEsSampler(seed=seed), categorical=False, multi_objective=False
    ),
    "nsga2": Sampler(lambda seed: NSGAIISampler(seed=seed, population_size=16)),
    # Scrambled Sobol points: random search without clumps.
    "qmc": Sampler(lambda seed: QMCSampler(seed=seed, scramble=True)),
    "random": Sampler(lambda seed: RandomSampler(seed=seed)),
}
"""Samplers: name → how it is built."""
