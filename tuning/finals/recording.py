"""Record final trainings in MLflow, and register the model of the selected one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mianet.data.datasets import find_dataset
from mianet.data.search_data import SearchData
from mianet.data.test_parts import TestParts
from mianet.errors import DivergedError
from mianet.final_training import FinalResult
from mianet.inference.prediction import Classifier
from tuning.events.event import Closed, SeedDone, TextAdded
from tuning.events.log import Appendable
from tuning.finals.training import SeedResult, Setup
from tuning.spec.final_files import CONFUSION_FILE, CURVE_FILE, confusion_text, curves_text
from tuning.spec.models import read_settings
from tuning.spec.records import COMPUTE_SECONDS, FinalDescription, RecordedTrial, mean_and_sd
from tuning.tracking.model_registry import RegisteredModel, register_model
from tuning.tracking.recording import recorded_final


@dataclass(frozen=True)
class Tested:
    """A configuration after its final training.

    Attributes:
        trial: The recorded trial that it is from.
        figures: ``test_<figure>_mean`` and ``_sd`` over the seeds.
        run_id: The run of the final training.
        diverged: Whether a seed did.
        classifier: The model of the first seed; None if a seed diverged, or for a model that is
            there to compare with.
    """

    trial: RecordedTrial
    figures: Mapping[str, float]
    run_id: str
    diverged: bool
    classifier: Classifier | None


def record(
    role: str,
    trial: RecordedTrial,
    results: Iterable[SeedResult],
    setup: Setup,
    uri: str,
    storage: Path,
) -> Tested:
    """Record a configuration's final training, each seed as it ends.

    Args:
        role: Which configuration it is: ``selected`` or ``paper``.
        trial: The recorded trial that it is from.
        results: What comes of each seed; awaited while they are recorded.
        setup: What all final trainings share.
        uri: The tracking store.
        storage: Folder that keeps what the store has not taken yet.

    Returns:
        The configuration with its test figures.

    Raises:
        InputError: The store does not answer or cannot be written to; found in seconds.
        RecordingError: Something did not reach the store.
    """
    description = _describe(role, trial, setup)
    ended, figures = [], []
    with recorded_final(uri, description, storage) as recording:
        for result in results:
            ended.append(result)
            if isinstance(result.outcome, FinalResult):
                figures.append(_figures(result.outcome, trial.calibration))
                recording.append(SeedDone(figures[-1]))
        trained = {r.seed: r.outcome for r in ended if isinstance(r.outcome, FinalResult)}
        if trained:
            _add_files(recording, trained, setup.test)
        diverged = [str(r.outcome) for r in ended if isinstance(r.outcome, DivergedError)]
        seconds = {COMPUTE_SECONDS: sum(one.seconds for one in ended)}
        status = "failed" if diverged else "finished"
        recording.append(Closed(status, note="; ".join(diverged), summary=seconds))
    classifier = None if diverged else trained[setup.seeds[0]].classifier
    return Tested(trial, mean_and_sd(figures), recording.run_id, bool(diverged), classifier)


def register(tested: Tested, uri: str, data: SearchData) -> RegisteredModel | None:
    """Register the model of the first seed: choosing a seed by its test would be cheating.

    Args:
        tested: The selected configuration.
        uri: The tracking store, whose registry it is.
        data: What it was trained on; two images of it become the example.

    Returns:
        The model; None if the configuration diverged.
    """
    if tested.classifier is None:
        return None
    return register_model(
        uri,
        run_id=tested.run_id,
        dataset=data.name,
        classifier=replace(tested.classifier, backbone=data.backbone),
        example=data.features[:2],
    )


def _add_files(log: Appendable, trained: Mapping[int, FinalResult], test: TestParts) -> None:
    """Record the confusion over all seeds, and each seed's seen-unseen curve."""
    names: Sequence[str] = test.class_names
    unseen_classes = set(test.unseen_classes.tolist())
    confusion = np.sum([result.confusion for result in trained.values()], axis=0)
    unseen = [position in unseen_classes for position in range(len(names))]
    log.append(TextAdded(CONFUSION_FILE, confusion_text(confusion, names, unseen)))
    log.append(TextAdded(CURVE_FILE, curves_text({s: r.curve for s, r in trained.items()})))


def _figures(result: FinalResult, calibration: float) -> dict[str, float]:
    """Return a seed's test figures, plain and with the constant that validation chose."""
    (seen,), (unseen,) = result.curve.at(np.array([calibration]))
    return result.metrics.as_dict("test_") | {
        "test_calibrated_unseen_accuracy": float(unseen),
        "test_calibrated_seen_accuracy": float(seen),
    }


def _describe(role: str, trial: RecordedTrial, setup: Setup) -> FinalDescription:
    images, feature_dim = setup.data.features.shape
    return FinalDescription(
        role=role,
        dataset=setup.data.name,
        dataset_title=find_dataset(setup.data.name).title,
        data_digest=setup.data.digest,
        data_source=setup.data_source,
        data_shape={"rows": images, "feature_dim": feature_dim},
        hyperparameters=read_settings(trial.hyperparameters).as_dict(),
        epochs=trial.best_epoch,
        seeds=list(setup.seeds),
        study=trial.study,
        study_run_id=trial.study_run_id,
        source_run_id=trial.run_id,
        protocol=trial.protocol,
        settings={
            "cpus": setup.share.cpus,
            "gpus": setup.share.gpus,
            "calibration": trial.calibration,
            **setup.data.provenance,
        },
        device=setup.share.device,
        objective=trial.objective,
    )
