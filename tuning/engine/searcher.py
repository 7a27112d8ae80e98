"""Where configurations come from: Optuna, behind Ray Tune's searcher interface.

A ``Proposer`` that has seen the same events proposes the same; Ray's own adapter loses its state.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

from tuning.engine.results import CONFIGURATION, NUMBER, WHOLE_GPU
from tuning.engine.samplers import SAMPLERS
from tuning.events.event import Ended, EpochDone, Event, Proposed
from tuning.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES, Objective
from tuning.spec.records import PAPER, SELECTABLE
from tuning.spec.warm_start import WarmPoint, warm_seed

_logger = logging.getLogger(__name__)


class Proposer:
    """Proposes configurations: given ones first, then new ones based on the results so far.

    A sampler's state is restored by replaying every past proposal and end in their original order.
    If the sampler does not repeat a proposal (because its version differs), the recorded one
    counts.

    Args:
        space: Hyperparameter → where its values are drawn from.
        sampler: A name of ``SAMPLERS``.
        seed: The sampler's seed.
        paper: The paper's configuration; empty where it is not in the space.
        paper_at: Which proposal that is, unless past events have it elsewhere.
        objective: What is maximised.
        warm: What else is proposed first.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        *,
        sampler: str,
        seed: int,
        paper: Mapping[str, Any],
        paper_at: int = 0,
        objective: Objective = OBJECTIVES[DEFAULT_OBJECTIVE],
        warm: Sequence[WarmPoint] = (),
    ) -> None:
        self._objective = objective
        self._space = dict(space)
        self._name = sampler
        self._seed = warm_seed(seed, warm)
        self._paper = WarmPoint(paper, PAPER)
        self.paper_at = paper_at if paper else None  # None where it is not in the space
        self._warm = tuple(warm)
        self._proposed = 0
        self._values: dict[int, list[float]] = {}  # of a trial's best epoch, to be maximised
        self._study = self._new_study(self._seed)

    def propose(self) -> Proposed:
        """Return the next configuration; it counts as running until it has ended."""
        given = self._given(self._proposed)
        if given:
            self._study.enqueue_trial(dict(given.configuration))
        trial = self._study.ask(self._space)
        self._proposed += 1
        origin = given.origin if given else self._name
        return Proposed(trial.number, dict(trial.params), origin)

    def handle(self, event: Event) -> None:
        """Process an event; the proposer's own proposals are already known to it."""
        if isinstance(event, EpochDone) and event.epoch == event.best_epoch:
            several = [event.metrics[name] for name in self._objective.parts]
            self._values[event.number] = several or [event.score]
        elif isinstance(event, Ended):
            self._tell(event)
        elif isinstance(event, Proposed) and event.number == self._proposed:
            if event.origin == PAPER:
                self.paper_at = event.number
            again = self.propose()
            if again != event:
                self._accept(event)

    def _tell(self, event: Ended) -> None:
        """Tell the sampler how a trial ended: the one place that decides what it is told.

        A trial that was stopped early counts with its best so far. A diverged one gets the worst
        possible value, so that the sampler goes elsewhere. A failed one does not count.
        """
        values = self._values.get(event.number, [])
        if event.status in SELECTABLE and values and all(map(math.isfinite, values)):
            self._study.tell(event.number, values)
        elif event.status == "infeasible":
            self._study.tell(event.number, [0.0] * len(self._objective.values))
        else:
            self._study.tell(event.number, state=TrialState.FAIL)

    def _accept(self, event: Proposed) -> None:
        """Replace what the sampler proposes now by what was really proposed."""
        _logger.warning(
            "the sampler %s does not reproduce its proposal for trial %d; the recorded one is "
            "used, and later ones may differ from those of an uninterrupted search",
            self._name,
            event.number,
        )
        past = self._study.get_trials(deepcopy=False)[: event.number]
        # A new seed: the old one would repeat the first proposals.
        self._study = self._new_study(self._seed + event.number)
        self._study.add_trials(past)
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=dict(event.configuration),
                distributions=self._space,
            )
        )

    def _given(self, number: int) -> WarmPoint | None:
        """Return the given configuration for a proposal; None if the sampler chooses."""
        if number == self.paper_at:
            return self._paper
        place = number - (self.paper_at is not None and number > self.paper_at)
        return self._warm[place] if place < len(self._warm) else None

    def _new_study(self, seed: int) -> optuna.Study:
        return optuna.create_study(
            directions=["maximize"] * len(self._objective.values),
            sampler=SAMPLERS[self._name].build(seed % 2**32),
        )


class StudySearcher(Searcher):
    """Hands out a study's configurations: first the unfinished ones, then new ones.

    It, and not Ray Tune, hands out a trial again after its worker died. If a worker dies while it
    is being prepared for its next trial, Tune's own retry reports that twice, and takes the second
    report for the end of the trial.

    Args:
        unfinished: Earlier trials that have not ended, by number.
        propose: Publishes and returns a new proposal; None when the budget is used up.
        any_running: Says whether a trial has not ended, so that it may need a retry.
    """

    def __init__(
        self,
        unfinished: Sequence[Proposed],
        propose: Callable[[], Proposed | None],
        any_running: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._unfinished = deque(unfinished)
        self._propose = propose
        self._any_running = any_running
        self._need_whole_gpu: set[int] = set()
        self._waiting: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what holds open files: Ray Tune pickles the searcher."""
        return {**self.__dict__, "_propose": None, "_any_running": None}

    def retry(self, proposed: Proposed) -> None:
        """Hand out a trial again, before any other."""
        self._unfinished.appendleft(proposed)

    def retry_with_whole_gpu(self, proposed: Proposed) -> None:
        """Hand out a trial again, with a whole GPU from now on."""
        self._need_whole_gpu.add(proposed.number)
        self.retry(proposed)

    def started(self, number: int) -> None:
        """Note that a trial has its resources."""
        if number == self._waiting:
            self._waiting = None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the configuration of a trial and its number in the study.

        None means "not now", and ``Searcher.FINISHED`` means "never again". While a trial waits for
        a whole GPU no other is handed out, since it could take part of it.
        """
        if self._waiting is not None:
            return None
        proposed = self._unfinished.popleft() if self._unfinished else self._propose()
        if proposed is None:
            return None if self._any_running() else str(Searcher.FINISHED)
        config = {NUMBER: proposed.number, CONFIGURATION: dict(proposed.configuration)}
        if proposed.number in self._need_whole_gpu:
            self._waiting = proposed.number
            return {**config, WHOLE_GPU: True}
        return config

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: ends arrive as events."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing: the event log has it all."""
