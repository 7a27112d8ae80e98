"""Train configurations on all trainval images with several seeds, spread over the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import ray

from mianet.config import Settings
from mianet.data.search_data import SearchData
from mianet.data.test_parts import TestParts
from mianet.errors import DivergedError
from mianet.final_training import FinalResult, train_final
from mianet.processor import use_threads
from tuning.compute.cluster import Share
from tuning.compute.display import Display
from tuning.compute.gpu_share import Need, most, need_of
from tuning.compute.waiting import Tasks
from tuning.spec.models import MODELS, read_settings
from tuning.spec.records import RecordedTrial


@dataclass(frozen=True)
class Setup:
    """What the final trainings of all configurations share.

    Attributes:
        data: What they train on.
        test: What they are tested on.
        data_source: Where both are from.
        seeds: One training each.
        share: What each of them gets of the cluster.
    """

    data: SearchData
    test: TestParts
    data_source: str
    seeds: Sequence[int]
    share: Share


@dataclass(frozen=True)
class SeedResult:
    """What came of one seed.

    Attributes:
        seed: The seed.
        outcome: The model and its test, or why the training diverged.
        seconds: How long it took on its worker.
    """

    seed: int
    outcome: FinalResult | DivergedError
    seconds: float


class FinalTrainings:
    """All final trainings of some configurations, started at once as far as the cluster goes.

    Args:
        chosen: Role → the recorded trial whose configuration is trained.
        setup: What they share.
        display: Where progress is shown.
    """

    def __init__(self, chosen: Mapping[str, RecordedTrial], setup: Setup, display: Display) -> None:
        self._setup = setup
        self._tasks = Tasks("final training", setup.share, display)
        self._display = display
        data, test = ray.put(setup.data), ray.put(setup.test)
        self._running = {role: self._start(trial, data, test) for role, trial in chosen.items()}

    def results(self, role: str) -> Iterator[SeedResult]:
        """Await each seed of a configuration; print what came of it."""
        for seed, reference in zip(self._setup.seeds, self._running[role], strict=True):
            ended = self._tasks.awaited(reference, f"{role}, seed {seed}")
            self._display.say(f"{role}, seed {seed}: {_words(ended.result)}")
            yield SeedResult(seed, ended.result, ended.seconds)

    def _start(
        self, trial: RecordedTrial, data: ray.ObjectRef, test: ray.ObjectRef
    ) -> list[ray.ObjectRef]:
        settings, share = read_settings(trial.hyperparameters), self._setup.share
        return [
            self._tasks.start(
                _train, data, test, settings, trial.best_epoch, trial.calibration, seed, share
            )
            for seed in self._setup.seeds
        ]


def _train(
    data: SearchData,
    test: TestParts,
    settings: Settings,
    epochs: int,
    calibration: float,
    seed: int,
    share: Share,
) -> FinalResult | DivergedError:
    use_threads(share.threads)
    try:
        return train_final(
            data,
            test,
            settings,
            epochs=epochs,
            seed=seed,
            calibration=calibration,
            device=share.device,
            begin=MODELS[settings.model].begin,
        )
    except DivergedError as error:
        return error


def _words(outcome: FinalResult | DivergedError) -> str:
    if isinstance(outcome, DivergedError):
        return f"diverged, {outcome}"
    figures = outcome.metrics
    return (
        f"test T1 {100 * figures.zsl_accuracy:.2f}, H {100 * figures.harmonic_mean:.2f}, "
        f"calibrated {100 * figures.calibrated_harmonic_mean:.2f}"
    )


def need_of_trainings(
    trials: Iterable[RecordedTrial], data: SearchData, test: TestParts
) -> Need | None:
    """Return what a final training needs of a GPU's memory: all images, all classes.

    Args:
        trials: The recorded trials whose configurations are trained.
        data: What they train on.
        test: What they are tested on.

    Returns:
        The largest need; None if one is unknown.
    """
    classes, attribute_dim = test.class_attributes.shape
    images = len(data.labels) + len(test.test_seen_labels) + len(test.test_unseen_labels)
    needs = [
        need_of(
            read_settings(trial.hyperparameters),
            images=images,
            feature_dim=data.features.shape[1],
            attribute_dim=attribute_dim,
            classes=classes,
        )
        for trial in trials
    ]
    return most(needs)
