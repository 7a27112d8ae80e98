"""Optuna's samplers, which propose configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)


@dataclass(frozen=True)
class Sampler:
    """How an Optuna sampler is built."""

    build: Callable[[int], BaseSampler]  # seed → sampler
    categorical: bool = True  # whether it can search categorical hyperparameters
    multi_objective: bool = True  # whether it can maximise several objectives at once


SAMPLERS: Mapping[str, Sampler] = {
    "tpe": Sampler(lambda seed: TPESampler(seed=seed, multivariate=True, constant_liar=True)),
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
