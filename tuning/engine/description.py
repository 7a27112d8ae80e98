"""What is recorded about a study, a confirmation or a final training before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mianet.data.datasets import find_dataset
from mianet.data.search_data import SearchData
from mianet.protocol import HELDOUT_SHARE, UNSEEN_SHARE
from tuning.compute.cluster import Share
from tuning.engine.study import Study
from tuning.spec.models import read_settings
from tuning.spec.records import FinalDescription, RecordedTrial, StudyDescription

_SETTINGS = ("model", "sampler", "scheduler", "trials", "max_epochs", "patience")


def describe_study(
    study: Study, data: SearchData, source: str, share: Share, cluster: str
) -> StudyDescription:
    """Return what is recorded about a study before its first trial.

    Args:
        study: The study.
        data: What it searches on.
        source: Where the data came from.
        share: What each trial gets.
        cluster: The cluster, in words.
    """
    embedding = {"class_embedding": data.class_embedding} if data.class_embedding else {}
    warm = {"warm_start": ", ".join(p.origin for p in study.warm)} if study.warm else {}
    return StudyDescription(
        **_data_fields(data, source),
        name=study.name,
        protocol={
            "executions": study.executions,
            "seed": study.seed,
            "unseen_share": UNSEEN_SHARE,
            "heldout_share": HELDOUT_SHARE,
            **embedding,
        },
        settings={
            **{name: getattr(study, name) for name in _SETTINGS},
            "time_budget_seconds": study.time_budget or "none",
            "fixed": dict(study.fixed),
            **warm,
            **data.provenance,
            "workers": share.workers,
            "cpus_per_trial": share.cpus,
            "gpus_per_trial": share.gpus,
            "cluster": cluster,
        },
        space=study.space,
        objective=study.objective,
    )


def describe_training(
    trial: RecordedTrial,
    data: SearchData,
    source: str,
    share: Share,
    *,
    kind: str,
    role: str,
    epochs: int,
    seeds: Sequence[int],
    settings: Mapping[str, Any] = {},
) -> FinalDescription:
    """Return what is recorded about a final training or a confirmation of a trial's configuration.

    Args:
        trial: The recorded trial.
        data: What is trained on.
        source: Where the data came from.
        share: What each training gets.
        kind: ``final`` or ``confirmation``.
        role: Which configuration it is.
        epochs: How long each is trained.
        seeds: One training each; for a confirmation, the numbers of its draws.
        settings: What else affects the outcome.
    """
    return FinalDescription(
        **_data_fields(data, source),
        kind=kind,
        role=role,
        hyperparameters=read_settings(trial.hyperparameters).as_dict(),
        epochs=epochs,
        seeds=list(seeds),
        study=trial.study,
        study_run_id=trial.study_run_id,
        source_run_id=trial.run_id,
        protocol=trial.protocol,
        settings={"cpus": share.cpus, "gpus": share.gpus, **settings},
        device=share.device,
        objective=trial.objective,
    )


def _data_fields(data: SearchData, source: str) -> dict[str, Any]:
    """Return the fields of ``Description`` that describe the data."""
    images, feature_dim = data.features.shape
    seen, attribute_dim = data.class_attributes.shape
    return {
        "dataset": data.name,
        "dataset_title": find_dataset(data.name).title,
        "data_digest": data.digest,
        "data_source": source,
        "data_shape": {
            "rows": images,
            "feature_dim": feature_dim,
            "attribute_dim": attribute_dim,
            "seen_classes": seen,
        },
    }
