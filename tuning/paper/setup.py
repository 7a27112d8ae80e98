"""Which configuration the experiments use: the one that a search selected, or the paper's."""

from __future__ import annotations

import argparse

from mianet.config import Hyperparameters
from mianet.data.datasets import find_dataset
from mianet.data.search_data import SearchData, paper_hyperparameters
from mianet.errors import InputError
from tuning.analysis.selection import Selection, select
from tuning.paper.evidence import FULL, PaperSetup
from tuning.spec.records import RecordedTrial
from tuning.tracking.reading import read_trials


def resolve_setup(
    options: argparse.Namespace, uri: str, data: SearchData, data_source: str, unseen_classes: int
) -> PaperSetup:
    """Return what all experiments share.

    Args:
        options: Those of ``reproduce.py``.
        uri: Where the search was recorded.
        data: The trainval images.
        data_source: Where they were read from.
        unseen_classes: How many classes have no training images.

    Raises:
        InputError: Nothing is recorded that could be selected, or a change is invalid.
    """
    trial, origin = _recorded(options, uri, data)
    found, epochs, run_id = paper_hyperparameters(data.name).as_dict(), options.epochs, ""
    if trial:
        found, run_id = dict(trial.hyperparameters), trial.run_id
        epochs = epochs or trial.final_epochs
        origin += f" (trial {trial.number} of study {trial.study})"
    changes = dict(options.set)
    settings = Hyperparameters.from_mapping({**found, **changes})
    completed = {name: v for name, v in FULL.items() if getattr(settings, name) != v}
    settings = settings.replace(**completed)
    if changed := {**changes, **completed}:
        values = ((name, getattr(settings, name)) for name in changed)
        parts = (f"{n}={v:.4g}" if isinstance(v, float) else f"{n}={v}" for n, v in values)
        origin += f" with {', '.join(parts)}"
    dataset, (images, feature_dim) = find_dataset(data.name), data.features.shape
    return PaperSetup(
        dataset=data.name,
        title=f"synthetic {dataset.title}" if dataset.synthetic else dataset.title,
        unseen_classes=unseen_classes,
        role=options.config,
        origin=origin,
        settings=settings,
        epochs=epochs,
        seeds=tuple(range(options.seeds)),
        source_run_id=run_id,
        class_embedding=data.class_embedding,
        data_digest=data.digest,
        data_source=data_source,
        data_shape={"rows": images, "feature_dim": feature_dim},
    )


def _recorded(
    options: argparse.Namespace, uri: str, data: SearchData
) -> tuple[RecordedTrial | None, str]:
    """Return the trial whose configuration is used, if one is needed, and the origin in words."""
    if options.config == "selected":
        return _selection(options, uri, data).trial, "configuration selected by the search"
    if options.epochs is not None:
        return None, "the paper's configuration"
    why = "no recorded study tried it"
    try:
        trial = _selection(options, uri, data).paper
    except InputError as error:
        trial, why = None, str(error)
    if trial is None:
        raise InputError(
            "the paper gives no number of epochs, so --config paper must have --epochs or a "
            f"recorded search that tried the paper's configuration, but has neither ({why}); "
            "give --epochs"
        )
    return trial, "the paper's configuration, epochs chosen by validation"


def _selection(options: argparse.Namespace, uri: str, data: SearchData) -> Selection:
    trials = read_trials(uri, data.name, options.study)
    return select(trials, study=options.study, data_digest=data.digest)
