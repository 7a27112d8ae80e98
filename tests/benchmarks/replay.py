"""A search replayed on recorded curves: true samplers, true stopping rules, simulated time.

Nothing is trained. An event queue hands the recorded epochs to the project's own ``Proposer`` and
``Stopping`` in the order in which any number of workers would report them; an epoch of a
trial lasts as long as its executions did when they were recorded.

The paper's configuration is the first trial.

A proposal that was not recorded is answered by the nearest configuration that was and that this
search has not tried yet (in the space's logarithms, each scaled to 0..1). The sampler is told that
configuration, as if it had proposed it: what it learns is true of the point it learns it for, noise
included, and no search is told of a point twice. Each search meets five draws of the recorded ones,
chosen by its seed (three where five were recorded); what it finds is judged by the other draws.
"""

import functools
import heapq
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import optuna
from curve_table import FIGURES, UNIT, About, coordinate, harmonic, read_rows

from tuning.engine.searcher import Proposer
from tuning.engine.stopping import Rule, Stopping
from tuning.events.event import Ended, EpochDone, Proposed
from tuning.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES

EXECUTIONS = 5


@dataclass(frozen=True)
class Curves:
    """A table of recorded curves.

    Attributes:
        about: What they were recorded with.
        values: A tuple a configuration, in the order of ``about.names``; the first is the paper's.
        figures: Name of an objective → (configurations, draws, epochs); NaN where nothing was
            recorded.
        objective: Which of them a search maximises.
        seconds: (configurations,), processor seconds of an epoch of one execution.
        lasting: (configurations, draws), epochs before the training diverged, else all epochs; -1
            where nothing was recorded.
    """

    about: About
    values: Sequence[tuple[float | str, ...]]
    figures: Mapping[str, np.ndarray]
    objective: str
    seconds: np.ndarray
    lasting: np.ndarray

    @property
    def objectives(self):
        """Return what a search maximises: (configurations, draws, epochs)."""
        return self.figures[self.objective]

    @property
    def draws(self):
        return self.objectives.shape[1]

    @property
    def epochs(self):
        return self.objectives.shape[2]

    @property
    def space(self):
        return self.about.distributions

    def point(self, values):
        """Return a configuration's values as numbers whose distances mean something.

        Ranges are scaled to 0..1, in logarithms; two entries of a list are farther apart than any
        two ends of ranges.
        """
        return np.array(
            [coordinate(self.space[n], v) for n, v in zip(self.about.names, values, strict=True)]
        )

    @functools.cached_property
    def points(self):
        """Return the point of each configuration."""
        return np.array([self.point(values) for values in self.values])


def load_curves(path, draws=None, further=0, objective=DEFAULT_OBJECTIVE):
    """Read the configurations of which the first ``draws`` executions were all recorded.

    With ``further``, so many more draws follow, which need not have been recorded. A search
    maximises ``objective``.
    """
    about, rows = read_rows(path)
    draws = draws or 1 + max(draw for _, draw in rows)
    wide = draws + further
    by_configuration = {}
    for row in rows.values():
        if row.draw < wide:
            by_configuration.setdefault(row.configuration, {})[row.draw] = row
    whole = set(range(draws))
    complete = [c for c, of in sorted(by_configuration.items()) if whole <= of.keys()]
    shape = (len(complete), wide, about.epochs)
    found = {name: np.full(shape, np.nan) for name in FIGURES}
    lasting = np.full(shape[:2], -1)
    for i, c in enumerate(complete):
        for draw, row in by_configuration[c].items():
            lasting[i, draw] = len(row.ts)
            for name in FIGURES:
                found[name][i, draw, : len(row.ts)] = np.divide(getattr(row, name), UNIT)
    of = [by_configuration[c] for c in complete]
    return Curves(
        about=about,
        values=[rows_of[0].values for rows_of in of],
        figures={
            "harmonic_mean": harmonic(found["ts"], found["tr"]),
            "zsl_accuracy": found["t1"],
            "ausuc": found["ausuc"],
            "calibrated": found["calibrated"],
        },
        objective=objective,
        # The median: what else the machine did at the time made some executions slower.
        seconds=np.array([np.median([r.seconds for r in rows_of.values()]) for rows_of in of]),
        lasting=lasting,
    )


@dataclass(frozen=True)
class World:
    """What one search meets of a table, and what judges it.

    Attributes:
        curves: The table.
        mean: (configurations, epochs), a trial's value: the mean objective over the search's draws
            and the objective's window of epochs; NaN after divergence.
        of_draws: (configurations, executions, epochs), the objective of each of those draws.
        lasting: (configurations,), epochs before the first of those draws diverged.
        truth: (configurations, epochs), mean objective over all other draws; 0 after divergence.
    """

    curves: Curves
    mean: np.ndarray
    of_draws: np.ndarray
    lasting: np.ndarray
    truth: np.ndarray

    @classmethod
    def of(cls, curves, seed):
        """Choose the draws of a search by its seed; at least two are left to judge."""
        order = np.random.default_rng([seed, 11]).permutation(curves.draws)
        met = min(EXECUTIONS, curves.draws - 2)
        return cls.meeting(curves, np.sort(order[:met]), np.sort(order[met:]))

    @classmethod
    def meeting(cls, curves, mine, others):
        """Return the world of a search that meets some draws and is judged by others."""
        of_draws = curves.objectives[:, mine]
        return cls(
            curves,
            smoothed(of_draws.mean(1), OBJECTIVES[curves.objective].window),
            of_draws,
            curves.lasting[:, mine].min(1),
            np.nan_to_num(curves.objectives[:, others].mean(1)),
        )

    @property
    def best(self):
        """Return the highest true objective of the table, over configurations and epochs."""
        return self.truth.max()


def smoothed(curves, window):
    """Return the mean of each epoch and those before it, up to ``window`` in all."""
    epochs = range(1, curves.shape[1] + 1)
    return np.stack([curves[:, max(0, e - window) : e].mean(1) for e in epochs], axis=1)


class TableProposer(Proposer):
    """A ``Proposer`` whose proposals are configurations of a table, each once at most.

    Attributes:
        rows: Number of a trial → row of the table.
    """

    def __init__(self, curves, *, sampler, seed, warm=()):
        names = curves.about.names
        paper = dict(zip(names, curves.values[0], strict=True))
        super().__init__(curves.space, sampler=sampler, seed=seed, paper=paper, warm=warm)
        self.curves = curves
        self.rows = {}
        self.asked = []
        self._free = np.ones(len(curves.values), bool)

    def propose(self):
        asked = super().propose()
        names = self.curves.about.names
        point = self.curves.point([asked.configuration[name] for name in names])
        self.asked.append(point)
        if not self._free.any():
            raise ValueError(f"a search must be of {len(self._free)} trials at most, as recorded")
        distance = np.where(self._free, ((self.curves.points - point) ** 2).sum(1), np.inf)
        row = int(distance.argmin())
        self._free[row] = False
        self.rows[asked.number] = row
        values = dict(zip(names, self.curves.values[row], strict=True))
        self._put(asked.number, values)
        return Proposed(asked.number, values, asked.origin)

    def _put(self, number, values):
        """Replace what Optuna believes is being tried, before anything is known of it."""
        storage = self._study._storage
        trial = storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
        for name, value in values.items():
            distribution = self._space[name]
            storage.set_trial_param(trial, name, distribution.to_internal_repr(value), distribution)


@dataclass(frozen=True, kw_only=True)
class Search:
    """How to search.

    Attributes:
        sampler: A name of ``SAMPLERS``.
        scheduler: Most epochs of a trial → stopping rule, as those of ``SCHEDULERS``.
        trials: Configurations to try at most.
        budget: Epochs of single executions after which nothing more is proposed.
        workers: Trials at once.
        patience: As ``Stopping`` takes it.
        proposer: How proposals are made, and what the sampler is told.
        stopping: Which trials are compared.
    """

    sampler: str
    scheduler: Callable[[int], Rule]
    trials: int
    budget: float = math.inf
    workers: int = 1
    patience: int = 5
    proposer: type[TableProposer] = TableProposer
    stopping: type[Stopping] = Stopping


@dataclass
class History:
    """What happened in a replayed search.

    Attributes:
        events: As a log would hold them, in their order.
        rows: Number of a trial → row of the table.
        seconds: Simulated wall time at each event.
        executions: Epochs of single executions computed until each event.
        asked: What the sampler proposed, scaled to 0..1, before the table answered.
    """

    events: list = field(default_factory=list)
    rows: dict = field(default_factory=dict)
    seconds: list = field(default_factory=list)
    executions: list = field(default_factory=list)
    asked: list = field(default_factory=list)


class Trial:
    """A trial at work.

    Attributes:
        proposed: What it tries.
        row: The row of the table that answers.
        curve: The trial's value by epoch.
        epoch: Epochs finished.
        score: The best of it so far.
        best_epoch: Where that was.
    """

    def __init__(self, proposed, row, curve):
        self.proposed = proposed
        self.row = row
        self.curve = curve
        self.epoch = 0
        self.score = -1.0
        self.best_epoch = 0

    def next_epoch(self):
        """Finish an epoch, and return what a worker reports of it."""
        self.epoch += 1
        value = float(self.curve[self.epoch - 1])
        if value > self.score:
            self.score, self.best_epoch = value, self.epoch
        return EpochDone(self.proposed.number, self.epoch, self.score, self.best_epoch, {})


class Replay:
    """One search on simulated time; ``run`` returns what happened."""

    def __init__(self, world, search, seed):
        self.world = world
        self.search = search
        self.proposer = search.proposer(world.curves, sampler=search.sampler, seed=seed)
        rule = search.scheduler(world.curves.epochs)
        self.stopping = search.stopping(rule, search.patience, exempt=0)
        self.history = History(rows=self.proposer.rows, asked=self.proposer.asked)
        self._queue = []
        self._tie = itertools.count()
        self._now = 0.0
        self._computed = 0

    def run(self):
        for _ in range(self.search.workers):
            self._start()
        while self._queue:
            self._now, _, trial = heapq.heappop(self._queue)
            self._computed += EXECUTIONS
            status = self._epoch(trial)
            if status:
                self._tell(Ended(trial.proposed.number, status, ""))
                self._start()
            else:
                self._schedule(trial)
        return self.history

    def _epoch(self, trial):
        """Finish an epoch of a trial; return how the trial ended, if it did."""
        if trial.epoch >= self.world.lasting[trial.row]:
            return "infeasible"
        self._tell(trial.next_epoch())
        if trial.epoch >= self.world.curves.epochs:
            return "finished"
        return "stopped_early" if trial.proposed.number in self.stopping.stopped else None

    def _start(self):
        search = self.search
        if len(self.proposer.rows) < search.trials and self._computed < search.budget:
            proposed = self.proposer.propose()
            row = self.proposer.rows[proposed.number]
            self._tell(proposed)
            self._schedule(Trial(proposed, row, self.world.mean[row]))

    def _schedule(self, trial):
        ends = self._now + EXECUTIONS * self.world.curves.seconds[trial.row]
        heapq.heappush(self._queue, (ends, next(self._tie), trial))

    def _tell(self, event):
        for listener in (self.proposer, self.stopping):
            listener.handle(event)
        self.history.events.append(event)
        self.history.seconds.append(self._now)
        self.history.executions.append(self._computed)


def incumbents(world, history):
    """Return, for each change of the best score: seconds, executions' epochs, row, epoch."""
    diverged = {
        e.number for e in history.events if isinstance(e, Ended) and e.status == "infeasible"
    }
    best, found = -math.inf, []
    for event, seconds, computed in zip(
        history.events, history.seconds, history.executions, strict=True
    ):
        if isinstance(event, EpochDone) and event.score > best and event.number not in diverged:
            best = event.score
            found.append((seconds, computed, history.rows[event.number], event.best_epoch))
    return found


def regret_at(world, found, when, column):
    """Return the true regret of the incumbent at each of ``when``: column 0 seconds, 1 epochs."""
    return world.best - incumbent_at(found, when, column, world.truth)


def incumbent_at(found, when, column, means):
    """Return what ``means`` holds of the incumbent at each of ``when``; NaN where there is none."""
    times = np.array([entry[column] for entry in found])
    of = np.array([means[row, epoch - 1] for _, _, row, epoch in found])
    index = np.searchsorted(times, when, side="right") - 1
    return np.where(index >= 0, of[np.maximum(index, 0)], np.nan)


optuna.logging.set_verbosity(optuna.logging.ERROR)
