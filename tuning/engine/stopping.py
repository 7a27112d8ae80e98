"""Which trials are stopped early: plain functions over the curves of a study's trials.

They see nothing else, so a study resumed from its events decides as an uninterrupted one would.
"""

from __future__ import annotations

import statistics
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from tuning.events.event import Ended, EpochDone, Event, Proposed
from tuning.spec.records import PAPER

History: TypeAlias = Mapping[int, Sequence[float]]
"""Trial number → best score so far after each epoch, of one kind; includes the trial judged."""

Kind: TypeAlias = tuple[str, ...]
"""What a trial has chosen from lists, such as its latent activation."""

Rule: TypeAlias = Callable[[History, EpochDone], bool]
"""Says whether a trial is stopped after an epoch, which is not yet in the history."""

FEWEST_OTHERS = 3
"""Median: how many others must have come this far before a trial is compared with them."""


def asha(history: History, event: EpochDone, *, rungs: Sequence[int], reduction: int) -> bool:
    """Stop a trial that is not among the best of those that reached its rung before it.

    Asynchronous successive halving (Li et al., "A System for Massively Parallel Hyperparameter
    Tuning", 2020) with one bracket, as Ray Tune's ``ASHAScheduler`` decides.

    Args:
        history: The curves so far.
        event: The trial's epoch.
        rungs: The epochs after which trials are compared.
        reduction: One in how many continues.
    """
    if event.epoch not in rungs:
        return False
    scores = [curve[event.epoch - 1] for curve in _others(history, event)]
    return bool(scores and event.score < np.nanpercentile(scores, 100 * (1 - 1 / reduction)))


def median(history: History, event: EpochDone, *, grace: int) -> bool:
    """Stop a trial whose best is below the median of the other trials' mean scores so far.

    The means begin with epoch ``grace`` (Golovin et al., "Google Vizier", 2017, section 3.2.2).

    Args:
        history: The curves so far.
        event: The trial's epoch.
        grace: The first epoch after which a trial may be stopped.
    """
    if event.epoch < grace:
        return False
    so_far = slice(grace - 1, event.epoch)
    means = [statistics.fmean(curve[so_far]) for curve in _others(history, event)]
    return len(means) >= FEWEST_OTHERS and event.score < statistics.median(means)


def never(history: History, event: EpochDone) -> bool:
    return False


def successive_halving(max_epochs: int, first: int, reduction: int) -> Rule:
    """Return ASHA's rule.

    Args:
        max_epochs: Most epochs of a trial.
        first: The first rung, in epochs.
        reduction: One in how many continues, and the factor between two rungs.
    """
    count = int(np.log(max_epochs / first) / np.log(reduction) + 1)
    rungs = tuple(first * reduction**k for k in range(count))
    return partial(asha, rungs=rungs, reduction=reduction)


SCHEDULERS: Mapping[str, Callable[[int], Rule]] = {
    "asha": lambda max_epochs: successive_halving(
        max_epochs, first=max(1, round(max_epochs / 9)), reduction=3
    ),
    "median": lambda max_epochs: partial(median, grace=max(1, max_epochs // 4)),
    "none": lambda max_epochs: never,
}
"""Schedulers: name → function that returns the stopping rule for a maximum number of epochs."""


class Stopping:
    """Decides which trials to stop, by a rule and by patience, from a study's events alone.

    Trials are compared with those of the same kind: one choice from a list may learn fast and the
    other go further, and then the curves of the two cross after the first comparison.

    The paper's configuration is exempt: a search is compared with it, so only patience stops it.
    Other trials are compared with it up to where the rule would have stopped it.

    Args:
        rule: Compares a trial with the others.
        patience: Epochs without a new best after which any trial is stopped.
        exempt: Number of the trial that only patience stops, unless the paper's configuration is
            proposed under another; None for none.
    """

    def __init__(self, rule: Rule, patience: int, exempt: int | None = None) -> None:
        self.exempt = exempt
        self.stopped: set[int] = set()  # not ended yet, but to be stopped
        self._rule = rule
        self._patience = patience
        self._kinds: dict[int, Kind] = {}
        self._histories: dict[Kind, dict[int, array[float]]] = {}
        self._overruled: set[int] = set()
        self._epochs: dict[int, int] = {}

    def should_stop(self, event: EpochDone) -> bool:
        """Say whether to stop a trial after an epoch; never after one that is already known."""
        if event.epoch <= self._epochs.get(event.number, 0):
            return False
        stale = event.epoch - event.best_epoch >= self._patience  # its curve rose, then fell
        return stale or (event.number != self.exempt and self._rule(self._history(event), event))

    def handle(self, event: Event) -> None:
        if isinstance(event, Proposed):
            self._kinds[event.number] = self.kind_of(event.configuration)
            if event.origin == PAPER:
                self.exempt = event.number
        elif isinstance(event, EpochDone):
            self._learn(event)
        elif isinstance(event, Ended):
            self.stopped.discard(event.number)
            self._epochs.pop(event.number, None)

    def _learn(self, event: EpochDone) -> None:
        if self.should_stop(event):
            self.stopped.add(event.number)
        self._epochs[event.number] = event.epoch
        if event.number in self._overruled:
            return
        history = self._history(event)
        if event.number == self.exempt and self._rule(history, event):
            self._overruled.add(event.number)
        history.setdefault(event.number, array("d")).append(event.score)

    def _history(self, event: EpochDone) -> dict[int, array[float]]:
        """Return the curves of all trials of the event's kind."""
        return self._histories.setdefault(self._kinds.get(event.number, ()), {})

    @staticmethod
    def kind_of(configuration: Mapping[str, Any]) -> Kind:
        values = (configuration[name] for name in sorted(configuration))
        return tuple(value for value in values if isinstance(value, str))


def _others(history: History, event: EpochDone) -> Iterator[Sequence[float]]:
    """Yield the curves of the other trials that came this far."""
    for number, curve in history.items():
        if number != event.number and len(curve) >= event.epoch:
            yield curve
