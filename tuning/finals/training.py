"""Final trainings: on all trainval images, with several seeds over the cluster, then the test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray

from mianet.config import Settings
from mianet.data.search_data import SearchData
from mianet.data.test_parts import TestParts
from mianet.errors import DivergedError
from mianet.final_training import FinalResult, train_final
from mianet.inference.prediction import Classifier
from tuning.compute.cluster import Share
from tuning.compute.display import StatusLine
from tuning.compute.gpu_share import MemoryNeed, estimate_need
from tuning.compute.waiting import Tasks
from tuning.engine.description import describe_training
from tuning.events.event import Closed, SeedDone, TextAdded
from tuning.spec.final_files import CONFUSION_FILE, CURVE_FILE, confusion_text, curves_text
from tuning.spec.models import read_settings
from tuning.spec.records import COMPUTE_SECONDS, RecordedTrial, mean_and_sd
from tuning.tracking.recording import recorded_final

FinalOutcome = FinalResult | DivergedError


@dataclass(frozen=True)
class FinalSetup:
    """What the final trainings of all configurations share."""

    data: SearchData
    test: TestParts
    data_source: str
    seeds: Sequence[int]
    share: Share


@dataclass(frozen=True)
class Tested:
    """A configuration after its final training."""

    trial: RecordedTrial
    figures: Mapping[str, float]  # ``test_<figure>_mean`` and ``_sd`` over the seeds
    run_id: str
    diverged: bool
    # The first seed's; None if one diverged, or for a model to compare with.
    classifier: Classifier | None


def training_need(
    candidates: Iterable[Settings], data: SearchData, test: TestParts
) -> MemoryNeed | None:
    """Return the most GPU memory that any of some trainings needs; None if unknown.

    Args:
        candidates: The model's hyperparameters in each of them.
        data: What they train on.
        test: What they are tested on.
    """
    classes, attribute_dim = test.class_attributes.shape
    return estimate_need(
        candidates,
        images=len(data.labels) + len(test.test_seen_labels) + len(test.test_unseen_labels),
        feature_dim=data.features.shape[1],
        attribute_dim=attribute_dim,
        classes=classes,
    )


def train_final_models(
    chosen: Mapping[str, RecordedTrial],
    setup: FinalSetup,
    uri: str,
    storage: Path,
    display: StatusLine,
) -> dict[str, Tested]:
    """Start all at once, as far as the cluster allows; record each role's seeds as they end.

    Args:
        chosen: Role, ``selected`` or ``paper`` → the recorded trial whose configuration is trained.
        setup: What they share.
        uri: The tracking store.
        storage: Folder that keeps what the store has not accepted yet.
        display: Shows progress, and the result of each seed.

    Raises:
        InputError, RecordingError: As ``recorded_final``.
    """
    tasks = Tasks("final training", setup.share, display)
    data, test = ray.put(setup.data), ray.put(setup.test)
    started = {
        role: [
            tasks.start(
                *(train_final, data, test, read_settings(trial.hyperparameters)),
                epochs=trial.final_epochs,
                seed=seed,
                calibration=trial.calibration,
                device=setup.share.device,
            )
            for seed in setup.seeds
        ]
        for role, trial in chosen.items()
    }

    def results(role: str) -> Iterator[tuple[FinalOutcome, float]]:
        for seed, reference in zip(setup.seeds, started[role], strict=True):
            ended = tasks.wait_for(reference, f"{role}, seed {seed}")
            display.say(f"{role}, seed {seed}: {_words(ended.result)}")
            yield ended.result, ended.seconds

    return {
        role: _record(role, trial, results(role), setup, uri, storage)
        for role, trial in chosen.items()
    }


def _record(
    role: str,
    trial: RecordedTrial,
    results: Iterable[tuple[FinalOutcome, float]],
    setup: FinalSetup,
    uri: str,
    storage: Path,
) -> Tested:
    trained: dict[int, FinalResult] = {}
    figures, diverged, compute_seconds = [], [], 0.0
    description = describe_training(
        *(trial, setup.data, setup.data_source, setup.share),
        kind="final",
        role=role,
        epochs=trial.final_epochs,
        seeds=setup.seeds,
        settings={"calibration": trial.calibration, **setup.data.provenance},
    )
    with recorded_final(uri, description, storage) as recording:
        for seed, (outcome, seconds) in zip(setup.seeds, results, strict=True):
            compute_seconds += seconds
            if isinstance(outcome, DivergedError):
                diverged.append(str(outcome))
                continue
            trained[seed] = outcome
            figures.append(_figures(outcome, trial.calibration))
            recording.append(SeedDone(figures[-1]))
        if trained:
            for name, text in _files(trained, setup).items():
                recording.append(TextAdded(name, text))
        status, summary = "failed" if diverged else "finished", {COMPUTE_SECONDS: compute_seconds}
        recording.append(Closed(status, note="; ".join(diverged), summary=summary))
    classifier = None if diverged else trained[setup.seeds[0]].classifier
    return Tested(trial, mean_and_sd(figures), recording.run_id, bool(diverged), classifier)


def _words(outcome: FinalOutcome) -> str:
    if isinstance(outcome, DivergedError):
        return f"diverged: {outcome}"
    figures = outcome.metrics
    return (
        f"test T1 {100 * figures.zsl_accuracy:.2f}, H {100 * figures.harmonic_mean:.2f}, "
        f"calibrated {100 * figures.calibrated_harmonic_mean:.2f}"
    )


def _files(trained: Mapping[int, FinalResult], setup: FinalSetup) -> dict[str, str]:
    """Return the confusion over all seeds, and each seed's seen-unseen curve, as texts."""
    names = setup.test.class_names
    confusion = np.sum([result.confusion for result in trained.values()], axis=0)
    unseen = np.isin(np.arange(len(names)), setup.test.unseen_classes).tolist()
    return {
        CONFUSION_FILE: confusion_text(confusion, names, unseen),
        CURVE_FILE: curves_text({seed: result.curve for seed, result in trained.items()}),
    }


def _figures(result: FinalResult, calibration: float) -> dict[str, float]:
    (seen,), (unseen,) = result.curve.at(np.array([calibration]))
    return result.metrics.as_dict("test_") | {
        "test_calibrated_unseen_accuracy": float(unseen),
        "test_calibrated_seen_accuracy": float(seen),
    }
