"""Train configurations on all trainval images with several seeds, spread over the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import ray

from mianet.data.search_data import SearchData
from mianet.data.test_parts import TestParts
from mianet.errors import DivergedError
from mianet.final_training import FinalResult, train_final
from mianet.processor import use_threads
from tuning.compute.cluster import Share
from tuning.compute.display import Display
from tuning.compute.gpu_share import Need, need_of
from tuning.compute.waiting import Tasks
from tuning.spec.models import MODELS, read_settings
from tuning.spec.records import RecordedTrial

Outcome = FinalResult | DivergedError


@dataclass(frozen=True)
class Setup:
    """What the final trainings of all configurations share."""

    data: SearchData
    test: TestParts
    data_source: str
    seeds: Sequence[int]
    share: Share


def start_trainings(
    chosen: Mapping[str, RecordedTrial], setup: Setup, display: Display
) -> dict[str, Iterator[tuple[Outcome, float]]]:
    """Start all final trainings at once as far as the cluster goes.

    Args:
        chosen: Role → the recorded trial whose configuration is trained.
        setup: What they share.
        display: Where progress is shown, and what came of each seed.

    Returns:
        Role → what came of each seed, and its seconds on the worker; awaited one by one.
    """
    tasks = Tasks("final training", setup.share, display)
    data, test = ray.put(setup.data), ray.put(setup.test)
    started = {
        role: [tasks.start(_train, data, test, trial, seed, setup.share) for seed in setup.seeds]
        for role, trial in chosen.items()
    }

    def results(role: str) -> Iterator[tuple[Outcome, float]]:
        for seed, reference in zip(setup.seeds, started[role], strict=True):
            ended = tasks.awaited(reference, f"{role}, seed {seed}")
            display.say(f"{role}, seed {seed}: {_words(ended.result)}")
            yield ended.result, ended.seconds

    return {role: results(role) for role in chosen}


def _train(
    data: SearchData, test: TestParts, trial: RecordedTrial, seed: int, share: Share
) -> Outcome:
    use_threads(share.threads)
    settings = read_settings(trial.hyperparameters)
    try:
        return train_final(
            data,
            test,
            settings,
            epochs=trial.best_epoch,
            seed=seed,
            calibration=trial.calibration,
            device=share.device,
            begin=MODELS[settings.model].begin,
        )
    except DivergedError as error:
        return error


def _words(outcome: Outcome) -> str:
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
    """Return what a final training needs of a GPU's memory at most; None where that is unknown.

    Args:
        trials: The recorded trials whose configurations are trained.
        data: What they train on.
        test: What they are tested on.
    """
    classes, attribute_dim = test.class_attributes.shape
    return need_of(
        (read_settings(trial.hyperparameters) for trial in trials),
        images=len(data.labels) + len(test.test_seen_labels) + len(test.test_unseen_labels),
        feature_dim=data.features.shape[1],
        attribute_dim=attribute_dim,
        classes=classes,
    )
