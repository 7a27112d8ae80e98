"""What the experiments train, and what they are given to look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd  # type: ignore[import-untyped]

from mianet.config import VARIANTS, Hyperparameters
from mianet.data.test_parts import TestParts
from mianet.errors import DivergedError
from mianet.inference.prediction import Classifier
from mianet.measurement import Measured

MULTIPLIERS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
"""The latent multipliers of figure 6."""

_VARIED = {name for changes in VARIANTS.values() for name in changes}
FULL: Mapping[str, Any] = MappingProxyType(
    {field.name: field.default for field in fields(Hyperparameters) if field.name in _VARIED}
)
"""The complete model. A search may have fixed a variant; the experiments start from this."""

ARMS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        **{name: {**FULL, **changes} for name, changes in VARIANTS.items()},
        **{f"multiplier_{m:g}": {**FULL, "latent_multiplier": m} for m in MULTIPLIERS},
    }
)
"""What is trained: name → what is changed in the configuration."""

FIGURES: Mapping[str, str] = MappingProxyType(
    {
        "unseen_accuracy": "ts",
        "seen_accuracy": "tr",
        "harmonic_mean": "H",
        "zsl_accuracy": "T1",
        "retrieval_map": "mAP",
    }
)
"""What is measured: name → how the paper calls it."""


class NothingToShowError(Exception):
    """Too many trainings of an experiment diverged for it to show anything."""


@dataclass(frozen=True)
class Training:
    """One training; equal ones are run once, whatever experiments ask for them."""

    settings: Hyperparameters
    epochs: int
    seed: int
    keep_model: bool


Outcome = Measured | DivergedError


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all experiments of a run share.

    Attributes:
        dataset: Canonical name of the data set.
        title: The name as it is printed.
        role: ``selected`` or ``paper``: whose configuration it is.
        origin: Where it is from, in words.
        settings: The configuration.
        epochs: How long every training is.
        seeds: One training of every arm each.
        source_run_id: The recorded trial that the configuration is from; empty for none.
    """

    dataset: str
    title: str
    role: str
    origin: str
    settings: Hyperparameters
    epochs: int
    seeds: tuple[int, ...]
    source_run_id: str = ""

    @property
    def caption(self) -> str:
        """Return data set, configuration and budget in a line."""
        seeds = f"{len(self.seeds)} seed" + ("s" if len(self.seeds) > 1 else "")
        epochs = f"{self.epochs} epoch" + ("s" if self.epochs > 1 else "")
        return f"{self.title}; {self.origin}; {epochs}, {seeds}"

    def arm(self, name: str) -> Hyperparameters:
        """Return the configuration of an arm."""
        return self.settings.replace(**ARMS[name])

    def trainings(self, arms: Iterable[str]) -> list[Training]:
        """Return the trainings of some arms, each once; the first seed's models are kept."""
        return list(dict.fromkeys(self.training(arm, s) for arm in arms for s in self.seeds))

    def training(self, arm: str, seed: int) -> Training:
        """Return the training of an arm with a seed."""
        return Training(self.arm(arm), self.epochs, seed, keep_model=seed == self.seeds[0])


@dataclass(frozen=True)
class Evidence:
    """What an experiment is given.

    Attributes:
        setup: What was trained.
        test: The test parts and all classes.
        outcomes: What came of each training.
        image_names: What each unseen test image is called.
        image_folder: Where to look for its file; None for nowhere.
    """

    setup: Setup
    test: TestParts
    outcomes: Mapping[Training, Outcome]
    image_names: Sequence[str] = ()
    image_folder: Path | None = None

    def of(self, arm: str) -> dict[int, Measured]:
        """Return seed → what was measured, without the seeds that diverged.

        Raises:
            NothingToShowError: All diverged.
        """
        outcomes = {s: self.outcomes[self.setup.training(arm, s)] for s in self.setup.seeds}
        finished = {s: o for s, o in outcomes.items() if isinstance(o, Measured)}
        if not finished:
            raise NothingToShowError(f"all seeds of {arm} diverged")
        return finished

    def model(self, arm: str) -> Classifier:
        """Return the model of the first seed.

        Raises:
            NothingToShowError: It diverged.
        """
        outcome = self.outcomes[self.setup.training(arm, self.setup.seeds[0])]
        if isinstance(outcome, DivergedError) or outcome.classifier is None:
            raise NothingToShowError(f"the first seed of {arm} diverged")
        return outcome.classifier

    def values(self, arm: str, figure: str) -> dict[int, float]:
        """Return seed → a figure in percent."""
        return {seed: 100 * one.figures[figure] for seed, one in self.of(arm).items()}

    def per_seed(self, arms: Iterable[str], figures: Sequence[str]) -> pd.DataFrame:
        """Return a row for each arm and seed, with the figures in percent by the paper's names."""
        return pd.DataFrame(
            [
                {
                    "arm": arm,
                    "seed": seed,
                    **{FIGURES[figure]: 100 * one.figures[figure] for figure in figures},
                }
                for arm in arms
                for seed, one in self.of(arm).items()
            ]
        )

    def note(self, arms: Iterable[str]) -> list[str]:
        """Return a sentence for each arm some of whose seeds diverged."""
        lost = {arm: len(self.setup.seeds) - len(self.of(arm)) for arm in arms}
        return [
            f"{count} of {len(self.setup.seeds)} seeds of {arm} diverged and are left out."
            for arm, count in lost.items()
            if count
        ]
