"""Whose configuration the experiments use: the one that a search selected, or the paper's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mianet.config import Hyperparameters
from mianet.data.datasets import find_dataset
from mianet.data.search_data import SearchData, paper_hyperparameters
from mianet.errors import InputError
from tuning.analysis.selection import Selection, select
from tuning.paper.evidence import FULL, Setup
from tuning.spec.records import RecordedTrial
from tuning.tracking.recorded_trials import read_trials


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What was asked for.

    Attributes:
        role: A name of ``CONFIGURATIONS``.
        tracking_uri: Where the search was recorded.
        study: Only trials of the studies of this name.
        epochs: How long to train; None for what the search found.
        changes: Hyperparameters to set, as strings.
        seeds: How many.
    """

    role: str
    tracking_uri: str
    study: str | None
    epochs: int | None
    changes: Mapping[str, str]
    seeds: int


@dataclass(frozen=True)
class _Configuration:
    settings: Hyperparameters
    epochs: int
    origin: str
    source_run_id: str = ""


def resolve(wish: Wish, data: SearchData, unseen_classes: int) -> Setup:
    """Return what all experiments share.

    Args:
        wish: What the user asked for.
        data: The trainval images.
        unseen_classes: How many classes have no training images.

    Raises:
        InputError: Nothing is recorded that could be selected, or a change is none that can be
            made.
    """
    found = CONFIGURATIONS[wish.role](wish, data)
    settings = Hyperparameters.from_mapping({**found.settings.as_dict(), **wish.changes})
    completed = {name: v for name, v in FULL.items() if getattr(settings, name) != v}
    changes = {**wish.changes, **completed}
    origin = found.origin
    if changes:
        origin += " with " + ", ".join(f"{name}={_short(v)}" for name, v in changes.items())
    dataset = find_dataset(data.name)
    return Setup(
        dataset=data.name,
        title=f"synthetic {dataset.title}" if dataset.synthetic else dataset.title,
        class_embedding=data.class_embedding,
        unseen_classes=unseen_classes,
        role=wish.role,
        origin=origin,
        settings=settings.replace(**completed),
        epochs=found.epochs,
        seeds=tuple(range(wish.seeds)),
        source_run_id=found.source_run_id,
    )


def _short(value: object) -> str:
    """Return a value with as many digits as a heading has room for."""
    try:
        return f"{float(str(value)):.4g}"
    except ValueError:
        return str(value)


def _selected(wish: Wish, data: SearchData) -> _Configuration:
    trial = _selection(wish, data).trial
    return _recorded(trial, wish, "configuration selected by the search")


def _paper(wish: Wish, data: SearchData) -> _Configuration:
    if wish.epochs is not None:
        origin = "the paper's configuration"
        return _Configuration(paper_hyperparameters(data.name), wish.epochs, origin)
    trial = _recorded_paper(wish, data)
    return _recorded(trial, wish, "the paper's configuration, epochs chosen by validation")


def _recorded_paper(wish: Wish, data: SearchData) -> RecordedTrial:
    try:
        trial = _selection(wish, data).paper
        why = "no study recorded it"
    except InputError as error:
        trial, why = None, str(error)
    if trial is None:
        raise InputError(
            "the paper gives no number of epochs, so its configuration must come with --epochs or "
            f"from a search, whose first trial it is, but there is none ({why})"
        )
    return trial


def _recorded(trial: RecordedTrial, wish: Wish, what: str) -> _Configuration:
    return _Configuration(
        Hyperparameters.from_mapping(trial.hyperparameters),
        wish.epochs or trial.best_epoch,
        f"{what} (trial {trial.number} of study {trial.study})",
        trial.run_id,
    )


def _selection(wish: Wish, data: SearchData) -> Selection:
    trials: Sequence[RecordedTrial] = read_trials(wish.tracking_uri, data.name, wish.study)
    return select(trials, study=wish.study, data_digest=data.digest)


CONFIGURATIONS: Mapping[str, Callable[[Wish, SearchData], _Configuration]] = {
    "selected": _selected,
    "paper": _paper,
}
"""Whose configuration: name → how it is found."""
