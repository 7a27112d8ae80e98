"""Record final trainings in MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mianet.errors import DivergedError
from mianet.final_training import FinalResult
from mianet.inference.prediction import Classifier
from tuning.engine.description import describe_training
from tuning.events.event import Closed, SeedDone, TextAdded
from tuning.finals.training import Outcome, Setup
from tuning.spec.final_files import CONFUSION_FILE, CURVE_FILE, confusion_text, curves_text
from tuning.spec.records import COMPUTE_SECONDS, RecordedTrial, mean_and_sd
from tuning.tracking.recording import recorded_final


@dataclass(frozen=True)
class Tested:
    """A configuration after its final training."""

    trial: RecordedTrial
    figures: Mapping[str, float]  # ``test_<figure>_mean`` and ``_sd`` over the seeds
    run_id: str
    diverged: bool
    # The first seed's; None if one diverged, or for a model to compare with.
    classifier: Classifier | None


def record(
    role: str,
    trial: RecordedTrial,
    results: Iterable[tuple[Outcome, float]],
    setup: Setup,
    uri: str,
    storage: Path,
) -> Tested:
    """Record a configuration's final training, each seed as it ends.

    Args:
        role: Which configuration it is: ``selected`` or ``paper``.
        trial: The recorded trial that it is from.
        results: What comes of each seed, and its seconds; awaited while they are recorded.
        setup: What all final trainings share.
        uri: The tracking store.
        storage: Folder that keeps what the store has not taken yet.

    Returns:
        The configuration with its test figures.

    Raises:
        InputError: The store does not answer or cannot be written to; found in seconds.
        RecordingError: Something did not reach the store.
    """
    trained: dict[int, FinalResult] = {}
    figures, diverged, at_work = [], [], 0.0
    description = describe_training(
        *(trial, setup.data, setup.data_source, setup.share),
        kind="final",
        role=role,
        seeds=setup.seeds,
        settings={"calibration": trial.calibration, **setup.data.provenance},
    )
    with recorded_final(uri, description, storage) as recording:
        for seed, (outcome, seconds) in zip(setup.seeds, results, strict=True):
            at_work += seconds
            if isinstance(outcome, DivergedError):
                diverged.append(str(outcome))
                continue
            trained[seed] = outcome
            figures.append(_figures(outcome, trial.calibration))
            recording.append(SeedDone(figures[-1]))
        if trained:
            for name, text in _files(trained, setup).items():
                recording.append(TextAdded(name, text))
        status, summary = "failed" if diverged else "finished", {COMPUTE_SECONDS: at_work}
        recording.append(Closed(status, note="; ".join(diverged), summary=summary))
    classifier = None if diverged else trained[setup.seeds[0]].classifier
    return Tested(trial, mean_and_sd(figures), recording.run_id, bool(diverged), classifier)


def _files(trained: Mapping[int, FinalResult], setup: Setup) -> dict[str, str]:
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
