"""Contracts that every sampler and every scheduler of the tables keeps."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from optuna.samplers import QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tuning.engine import algorithms
from tuning.engine.algorithms import (
    BEST_EPOCH,
    CONFIGURATION,
    EPOCH,
    INFEASIBLE,
    NUMBER,
    SAMPLERS,
    SCHEDULERS,
    SCORE,
    StudyScheduler,
)
from tuning.events.ledger import Ended, EpochDone, Proposed
from tuning.spec.space import search_space

optuna.logging.set_verbosity(optuna.logging.ERROR)


def propose(sampler, count=14, seed=0, names=("alpha", "learning_rate", "latent_multiplier")):
    study = optuna.create_study(sampler=SAMPLERS[sampler].build(seed), direction="maximize")
    space, points = search_space(names), []
    for _ in range(count):
        trial = study.ask(space)
        points.append(trial.params)
        study.tell(trial, -abs(math.log10(trial.params["alpha"]) - 1))
    return points, space


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_repeats_the_proposals_and_another_one_does_not(sampler):
    first, again, other = (propose(sampler, seed=seed)[0] for seed in (3, 3, 4))
    assert first == again
    assert first != other


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposals_lie_in_the_space_and_differ(sampler):
    points, space = propose(sampler)
    for point in points:
        assert all(space[name].low <= value <= space[name].high for name, value in point.items())
    assert len({tuple(point.values()) for point in points}) == len(points)


@pytest.mark.parametrize("sampler", [name for name, s in SAMPLERS.items() if s.categorical])
def test_samplers_that_say_so_search_lists_too(sampler):
    points, _ = propose(sampler, names=("alpha", "latent_activation"))
    assert {point["latent_activation"] for point in points} == {"relu", "linear"}


@dataclass(frozen=True, eq=False)
class FakeTrial:
    trial_id: str
    config: dict
    status: str = "RUNNING"


class PickyScheduler(FIFOScheduler):
    """Stops whom it is told to, and remembers all that it heard."""

    def __init__(self, stops=()):
        super().__init__()
        self.stops, self.heard = set(stops), []

    def on_trial_result(self, tune_controller, trial, result):
        self.heard.append((trial.trial_id, result[EPOCH]))
        stop = (trial.trial_id, result[EPOCH]) in self.stops
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE


def drive(scheduler, curves, first=0):
    """Feed curves epoch by epoch as Ray Tune does; return how long each was let run."""
    scheduler.set_search_properties(SCORE, "max")
    controller = SimpleNamespace(get_trials=list, get_live_trials=list)
    lasted = []
    for number, curve in list(enumerate(curves))[first:]:
        trial = FakeTrial(f"id{number}", {NUMBER: number, CONFIGURATION: {"alpha": number}})
        scheduler.on_trial_add(controller, trial)
        for epoch in range(1, len(curve) + 1):
            best = max(curve[:epoch])
            result = {EPOCH: epoch, SCORE: best, BEST_EPOCH: curve.index(best) + 1}
            decision = scheduler.on_trial_result(controller, trial, result)
            if decision == TrialScheduler.STOP:
                break
        scheduler.on_trial_complete(controller, trial, result)
        lasted.append(epoch)
    return lasted


GOOD, BAD = [0.5 + 0.01 * e for e in range(20)], [0.1] * 20


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_good_trial_runs_to_its_end_and_a_bad_one_no_longer(scheduler):
    lasted = drive(SCHEDULERS[scheduler].build(20), [GOOD] * 6 + [BAD, GOOD])
    assert lasted[0] == 20
    assert lasted[6] < 20 or scheduler == "none"
    assert lasted[6] <= lasted[7]


@pytest.mark.parametrize("max_epochs", [1, 2, 9, 100])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_budget_of_epochs_can_be_scheduled(scheduler, max_epochs):
    lasted = drive(SCHEDULERS[scheduler].build(max_epochs), [[0.3] * max_epochs] * 3)
    assert lasted[0] == max_epochs


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_no_other_trial_stops_the_spared_one_and_it_is_still_compared_with(scheduler):
    sparing = StudyScheduler(SCHEDULERS[scheduler].build(20), 100, spared=6)
    bare = SCHEDULERS[scheduler].build(20)
    curves = [GOOD] * 6 + [BAD, BAD]
    with_sparing, without = drive(sparing, curves), drive(bare, curves)
    assert with_sparing[6] == 20
    assert with_sparing[:6] == without[:6]
    assert with_sparing[7] == without[7]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_trial_whose_best_is_old_is_stopped_even_if_it_is_spared(scheduler):
    """Whether the scheduler inside would have it go on, or stopped it before."""
    good, poor = [0.1, 0.9] + [0.2] * 18, [0.1, 0.2] + [0.1] * 18
    patient = StudyScheduler(SCHEDULERS[scheduler].build(20), 4, spared=1)
    assert drive(patient, [good, good]) == [6, 6]
    patient = StudyScheduler(SCHEDULERS[scheduler].build(20), 4, spared=6)
    assert drive(patient, [GOOD] * 6 + [poor]) == [20] * 6 + [6]


def test_a_study_without_a_spared_configuration_spares_none():
    patient = StudyScheduler(FIFOScheduler(), 3)
    assert drive(patient, [BAD, BAD]) == [4, 4]


def random_curves(seed, count=24, epochs=20):
    random = np.random.default_rng(seed)
    return [
        np.maximum.accumulate(random.random() * random.random(epochs)).tolist()
        for _ in range(count)
    ]


def events_of(curves, lasted, until=None, paper=None):
    """Return what a ledger holds of these curves; the trial ``until`` has not ended."""
    events = []
    for number, (curve, epochs) in enumerate(zip(curves, lasted, strict=True)):
        origin = "paper" if number == paper else "random"
        events.append(Proposed(number, {"alpha": number}, origin))
        for epoch in range(1, epochs + 1):
            best = max(curve[:epoch])
            events.append(EpochDone(number, epoch, best, curve.index(best) + 1, {}))
        if number == until:
            return events
        status = "finished" if epochs == len(curve) else "stopped_early"
        events.append(Ended(number, status, ""))
    return events


@pytest.mark.parametrize("cut", [1, 7, 20])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_scheduler_that_is_told_of_the_past_decides_as_if_it_had_been_there(scheduler, cut):
    curves = random_curves(seed=1)
    lasted = drive(StudyScheduler(SCHEDULERS[scheduler].build(20), 6, spared=0), curves)
    assert len(set(lasted)) > 2
    told = StudyScheduler(SCHEDULERS[scheduler].build(20), 6, spared=0)
    for event in events_of(curves[:cut], lasted[:cut]):
        told.take(event)
    assert drive(told, curves, first=cut) == lasted[cut:]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_papers_configuration_is_spared_where_the_past_had_it(scheduler):
    curves = [GOOD] * 5 + [BAD] + [GOOD] * 3
    lasted = drive(StudyScheduler(SCHEDULERS[scheduler].build(20), 100, spared=5), curves)
    told = StudyScheduler(SCHEDULERS[scheduler].build(20), 100, spared=8)
    for event in events_of(curves[:6], [*lasted[:5], 19], until=5, paper=5):
        told.take(event)
    assert told.spared == 5
    assert 5 not in told.stopped
    assert drive(told, curves, first=5) == lasted[5:]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_trial_that_goes_on_is_judged_as_if_it_had_never_paused(scheduler):
    curves = random_curves(seed=2)
    lasted = drive(StudyScheduler(SCHEDULERS[scheduler].build(20), 6), curves)
    cut = next(n for n in range(5, 24) if lasted[n] > 1)
    told = StudyScheduler(SCHEDULERS[scheduler].build(20), 6)
    half = [*lasted[:cut], lasted[cut] - 1]
    for event in events_of(curves[: cut + 1], half, until=cut):
        told.take(event)
    assert cut not in told.stopped
    assert drive(told, curves, first=cut) == lasted[cut:]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_stop_that_was_decided_but_not_written_is_decided_again(scheduler):
    curves = random_curves(seed=3)
    lasted = drive(StudyScheduler(SCHEDULERS[scheduler].build(20), 6), curves)
    cut = next(n for n in range(5, 24) if lasted[n] < 20)
    told = StudyScheduler(SCHEDULERS[scheduler].build(20), 6)
    for event in events_of(curves[: cut + 1], lasted[: cut + 1], until=cut):
        told.take(event)
    assert cut in told.stopped


def test_repeated_epochs_are_heard_once_and_divergence_not_at_all():
    inner = PickyScheduler()
    scheduler = StudyScheduler(inner, 100)
    trial = FakeTrial("x", {NUMBER: 4, CONFIGURATION: {}})
    scheduler.on_trial_add(None, trial)
    for epoch in (1, 2, 1, 2, 3):
        result = {EPOCH: epoch, SCORE: 0.1, BEST_EPOCH: 1}
        assert scheduler.on_trial_result(None, trial, result) == TrialScheduler.CONTINUE
    diverged = {EPOCH: 4, SCORE: 0.0, BEST_EPOCH: 0, INFEASIBLE: "not finite"}
    assert scheduler.on_trial_result(None, trial, diverged) == TrialScheduler.STOP
    assert inner.heard == [("4", 1), ("4", 2), ("4", 3)]


def test_sobol_points_are_optunas_own():
    space = search_space()

    def points(sampler):
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.enqueue_trial({name: distribution.high for name, distribution in space.items()})
        told = []
        for number in range(20):
            told.append(study.ask(space))
            if number % 3 == 2:  # several run at once, and one fails
                study.tell(told[-3], 0.1 * number)
                study.tell(told[-2], state=TrialState.FAIL)
        return [trial.params for trial in told]

    own = QMCSampler(seed=3, scramble=True)
    assert points(SAMPLERS["qmc"].build(3)) == points(own)


def value_of(params):
    return round(-abs(math.log10(params["alpha"]) - 1), 1)  # many are equally good


def told(sampler, count, past=(), several=1):
    """Ask and tell with four running at once; return the study and what was proposed."""
    study = optuna.create_study(directions=["maximize"] * several, sampler=sampler)
    study.add_trials(past)
    running, points = [], []
    for number in range(count):
        running.append(study.ask(search_space()))
        points.append(running[-1].params)
        if len(running) == 4:
            trial = running.pop(0)
            if number % 9 == 8:
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, [value_of(trial.params)] * several)
    return study, points


def random_trials(count):
    study = optuna.create_study(sampler=RandomSampler(seed=2), direction="maximize")
    for _ in range(count):
        trial = study.ask(search_space())
        study.tell(trial, value_of(trial.params))
    return study.get_trials()


def estimators_of(study):
    """Return the numbers of the trials that the next proposal takes for good, and of the others."""
    split = []
    inner = TPESampler._build_parzen_estimator

    def spy(self, study, search_space, trials, handle_below):
        split.append([trial.number for trial in trials])
        return inner(self, study, search_space, trials, handle_below)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TPESampler, "_build_parzen_estimator", spy)
        study.ask(search_space())
    return split


def optunas_tpe():
    return TPESampler(seed=3, multivariate=True, constant_liar=True)


def test_tpe_is_optunas_own_as_long_as_it_fits_all_trials():
    _, ours = told(SAMPLERS["tpe"].build(3), 40)
    _, theirs = told(optunas_tpe(), 40)
    assert ours == theirs


def test_tpe_fits_the_newest_of_many_trials_and_the_same_good_ones(monkeypatch):
    study, _ = told(SAMPLERS["tpe"].build(3), 60, past=random_trials(300))
    whole = optuna.create_study(direction="maximize", sampler=optunas_tpe())
    whole.add_trials(study.get_trials())
    good, rest = estimators_of(whole)
    monkeypatch.setattr(algorithms, "MOST_FITTED", 280)
    first = 361 - 280  # with the proposal at hand
    assert len(good) == 25
    assert min(good) < first
    assert max(good) >= 300  # learnt of as they ended
    given = optuna.create_study(direction="maximize", sampler=SAMPLERS["tpe"].build(3))
    given.add_trials(study.get_trials())  # as a later process may have to
    for seen in (study, given):
        assert estimators_of(seen) == [good, [number for number in rest if number >= first]]


def test_tpe_fits_all_trials_where_there_are_several_objectives(monkeypatch):
    monkeypatch.setattr(algorithms, "MOST_FITTED", 20)
    study, _ = told(SAMPLERS["tpe"].build(3), 45, several=2)
    failed = 45 // 9
    assert sum(map(len, estimators_of(study))) == 45 - failed


def test_who_waits_is_found_without_a_look_at_all_trials_of_a_study():
    waiting = [FakeTrial(f"id{n}", {NUMBER: n}, status="PENDING") for n in (7, 5, 6)]
    running = FakeTrial("id4", {NUMBER: 4})
    controller = SimpleNamespace(get_live_trials=lambda: {running, *waiting})
    scheduler = StudyScheduler(SCHEDULERS["asha"].build(20), 10)
    assert scheduler.choose_trial_to_run(controller) is waiting[1]
    controller.get_live_trials = lambda: {running}
    assert scheduler.choose_trial_to_run(controller) is None
