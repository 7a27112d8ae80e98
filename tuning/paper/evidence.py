"""What the experiments train, and the results that they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]

from mianet.config import VARIANTS, Hyperparameters
from mianet.data.test_parts import TestParts
from mianet.errors import DivergedError
from mianet.final_training import Measured
from mianet.inference.prediction import Classifier
from tuning.analysis import outcome_table
from tuning.analysis.comparison import Difference, paired_difference
from tuning.spec.records import counted

MULTIPLIERS = {f"multiplier_{m:g}": m for m in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)}
"""Figure 6: arm → latent multiplier."""

NEW_SHARES = {f"new_{100 * share:.0f}": share for share in (0.2, 0.4, 0.6, 0.8, 1.0)}
"""Figure 8: arm → share of the unseen classes whose attributes are withheld from training."""

_VARIED = {name for changes in VARIANTS.values() for name in changes}
FULL: Mapping[str, Any] = {
    one.name: one.default for one in fields(Hyperparameters) if one.name in _VARIED
}
"""The complete model. A search may have fixed a variant; the experiments start from this."""

ARMS: Mapping[str, Mapping[str, Any]] = {
    **{name: {**FULL, **changes} for name, changes in VARIANTS.items()},
    **{arm: {**FULL, "latent_multiplier": m} for arm, m in MULTIPLIERS.items()},
    **dict.fromkeys(NEW_SHARES, FULL),
}
"""What is trained: name → the settings that differ from the configuration."""

FIGURES: Mapping[str, str] = {**outcome_table.FIGURES, "retrieval_map": "mAP"}
"""What is measured: name → what the paper calls it."""


class NothingToShowError(Exception):
    """Too many trainings of an experiment diverged for it to show anything."""


@dataclass(frozen=True)
class TrainingSpec:
    """One training; equal ones are run once, however many experiments need them."""

    settings: Hyperparameters
    epochs: int
    seed: int
    keep_model: bool
    new_classes: int = 0


TrainingOutcome = Measured | DivergedError


@dataclass(frozen=True, kw_only=True)
class PaperSetup:
    """What all experiments of a run share."""

    dataset: str
    title: str
    unseen_classes: int
    role: str
    origin: str  # in words
    settings: Hyperparameters
    epochs: int
    seeds: tuple[int, ...]  # one training of every arm for each
    source_run_id: str = ""  # the recorded trial; empty for none
    class_embedding: str = ""  # instead of the data set's own attributes
    data_digest: str = ""  # of the data set's source
    data_source: str = ""
    data_shape: Mapping[str, int] = field(default_factory=dict)

    @property
    def caption(self) -> str:
        """Return data set, configuration and budget in a line."""
        seeds, epochs = counted(len(self.seeds), "seed"), counted(self.epochs, "epoch")
        described = self.class_embedding and f", classes described by {self.class_embedding}"
        return f"{self.title}{described}; {self.origin}; {epochs}, {seeds}"

    def trainings(self, arms: Iterable[str]) -> list[TrainingSpec]:
        return list(dict.fromkeys(self.training(arm, s) for arm in arms for s in self.seeds))

    def training(self, arm: str, seed: int) -> TrainingSpec:
        """Return the training of an arm with a seed; the first seed's models are kept."""
        return TrainingSpec(
            self.settings.replace(**ARMS[arm]),
            self.epochs,
            seed,
            keep_model=seed == self.seeds[0],
            new_classes=self.new_classes(arm),
        )

    def new_classes(self, arm: str) -> int:
        """Return how many unseen classes' attributes an arm withholds from training."""
        return round(NEW_SHARES.get(arm, 0) * self.unseen_classes)


@dataclass(frozen=True)
class Evidence:
    """What an experiment is given."""

    setup: PaperSetup
    test: TestParts
    outcomes: Mapping[TrainingSpec, TrainingOutcome]
    image_names: Sequence[str] = ()
    image_folder: Path | None = None

    def measured(self, arm: str) -> dict[int, Measured]:
        """Return the measurements of each seed that finished; ``NothingToShowError`` if none."""
        outcomes = {s: self.outcomes[self.setup.training(arm, s)] for s in self.setup.seeds}
        finished = {s: o for s, o in outcomes.items() if isinstance(o, Measured)}
        if not finished:
            raise NothingToShowError(f"all seeds of {arm} diverged")
        return finished

    def model(self, arm: str) -> Classifier:
        """Return the first seed's model; a ``NothingToShowError`` where it diverged."""
        outcome = self.outcomes[self.setup.training(arm, self.setup.seeds[0])]
        if isinstance(outcome, DivergedError) or outcome.classifier is None:
            raise NothingToShowError(f"the first seed of {arm} diverged")
        return outcome.classifier

    def difference(
        self, first: str, second: str, figure: str | Callable[[Measured], float]
    ) -> Difference:
        """Return how much higher a figure is in one arm than in another, paired by seed.

        Args:
            first: An arm.
            second: Another.
            figure: A name in ``FIGURES``, or a function that computes another figure of a seed.

        Raises:
            NothingToShowError: No seed finished in both.
        """
        value = figure if callable(figure) else lambda one: one.figures[figure]
        values = [
            {seed: value(one) for seed, one in self.measured(a).items()} for a in (first, second)
        ]
        if not values[0].keys() & values[1].keys():
            raise NothingToShowError(f"no seed finished for both {first} and {second}")
        return paired_difference(*values)

    def per_seed(self, arms: Iterable[str], figures: Sequence[str]) -> pd.DataFrame:
        """Return a row for each arm and seed: the figures in percent under the paper's names."""
        rows = [
            (arm, seed, *(100 * one.figures[figure] for figure in figures))
            for arm in arms
            for seed, one in self.measured(arm).items()
        ]
        return pd.DataFrame(rows, columns=["arm", "seed", *(FIGURES[f] for f in figures)])

    def divergence_notes(self, arms: Iterable[str]) -> list[str]:
        """Return a sentence for each arm some of whose seeds diverged."""
        seeds = len(self.setup.seeds)
        return [
            f"{lost} of {seeds} seeds of {arm} diverged and are left out."
            for arm in arms
            if (lost := seeds - len(self.measured(arm)))
        ]
