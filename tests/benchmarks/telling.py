"""What a sampler can be told of a trial that a scheduler stopped early; see ``compare_searches``.

A trial that patience stopped has shown its peak, so its score is as good as that of a whole curve.
One that a scheduler stopped at a rung has not.
"""

import statistics

from optuna.trial import TrialState
from replay import TableProposer

from tuning.events.event import EpochDone

PATIENCE = 5
FEWEST = 5


class _Remembers(TableProposer):
    """Remembers curves, and tells of a trial that was cut short in its own way."""

    def __init__(self, curves, *, sampler, seed):
        super().__init__(curves, sampler=sampler, seed=seed)
        self.so_far = {}
        self.last = {}
        self.whole = []

    def handle(self, event):
        if isinstance(event, EpochDone):
            self.so_far.setdefault(event.number, []).append(event.score)
            self.last[event.number] = event
        super().handle(event)

    def _tell(self, event):
        last = self.last.get(event.number)
        if event.status == "finished" or (
            event.status == "stopped_early" and last.epoch - last.best_epoch >= PATIENCE
        ):
            self.whole.append(event.number)
        elif event.status == "stopped_early":
            return self._tell_cut_short(event, last)
        return super()._tell(event)


class AsPruned(_Remembers):
    """Says that it was pruned, at which epoch and with which score.

    TPE ranks it below all whole trials, and among the pruned by epoch, then score. GP and CMA-ES
    take no notice.
    """

    def _tell_cut_short(self, event, last):
        storage = self._study._storage
        trial = storage.get_trial_id_from_study_id_trial_number(self._study._study_id, event.number)
        storage.set_trial_intermediate_value(trial, last.epoch, last.score)
        self._study.tell(event.number, state=TrialState.PRUNED)


class AsNothing(_Remembers):
    """Says that the trial failed: no sampler takes notice."""

    def _tell_cut_short(self, event, last):
        self._study.tell(event.number, state=TrialState.FAIL)


class Extrapolated(_Remembers):
    """Says what it would have come to, had it gained as whole trials did from that epoch on.

    The median of their factors, no more than the best whole trial's score; as it is while there
    are few of them.
    """

    def _tell_cut_short(self, event, last):
        curves = [self.so_far[number] for number in self.whole]
        factors = [
            curve[-1] / curve[last.epoch - 1]
            for curve in curves
            if len(curve) >= last.epoch and curve[last.epoch - 1] > 0
        ]
        score = last.score
        if len(factors) >= FEWEST:
            best = max(curve[-1] for curve in curves)
            score = max(score, min(best, score * statistics.median(factors)))
        self._study.tell(event.number, score)


TELLINGS = {
    "as complete": TableProposer,
    "as pruned": AsPruned,
    "as nothing": AsNothing,
    "extrapolated": Extrapolated,
}
"""What is said of a trial cut short → a proposer that says it."""
