"""Stopping rules: contracts of every one, and Ray Tune's own schedulers as oracles."""

from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from tuning.engine.results import BEST_EPOCH, BROKEN, EPOCH, INFEASIBLE, METRICS, NUMBER, SCORE
from tuning.engine.stopping import SCHEDULERS, Stopping, never
from tuning.engine.tune_scheduler import StoppingScheduler
from tuning.events.event import Ended, EpochDone, Proposed


@dataclass(frozen=True, eq=False)
class FakeTrial:
    config: dict
    status: str = "RUNNING"
    trial_id: str = ""


GOOD, BAD = [0.5 + 0.01 * e for e in range(20)], [0.1] * 20


def epoch_of(number, curve, epoch):
    """Return what is reported of an epoch of a curve."""
    best = max(curve[:epoch])
    return EpochDone(number, epoch, best, curve.index(best) + 1, {})


def drive(stopping, curves, first=0):
    """Run one trial after the other; return how long each was let run."""
    lasted = []
    for number, curve in list(enumerate(curves))[first:]:
        for epoch in range(1, len(curve) + 1):
            stopping.handle(epoch_of(number, curve, epoch))
            if number in stopping.stopped:
                break
        stopping.handle(Ended(number, "finished", ""))
        lasted.append(epoch)
    return lasted


def stopping(scheduler, patience=100, exempt=None, epochs=20):
    return Stopping(SCHEDULERS[scheduler](epochs), patience, exempt)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_good_trial_runs_to_its_end_and_a_bad_one_no_longer(scheduler):
    lasted = drive(stopping(scheduler), [GOOD] * 6 + [BAD, GOOD])
    assert lasted[0] == 20
    assert lasted[6] < 20 or scheduler == "none"
    assert lasted[6] <= lasted[7]


@pytest.mark.parametrize("max_epochs", [1, 2, 9, 100])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_budget_of_epochs_can_be_scheduled(scheduler, max_epochs):
    lasted = drive(stopping(scheduler, 101, epochs=max_epochs), [[0.3] * max_epochs] * 3)
    assert lasted[0] == max_epochs


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_no_other_trial_stops_the_spared_one_and_it_is_still_compared_with(scheduler):
    curves = [GOOD] * 6 + [BAD, BAD]
    with_sparing, without = drive(stopping(scheduler, exempt=6), curves), drive(
        stopping(scheduler), curves
    )  # fmt: skip
    assert with_sparing[6] == 20
    assert with_sparing[:6] == without[:6]
    assert with_sparing[7] == without[7]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_trial_whose_best_is_old_is_stopped_even_if_it_is_spared(scheduler):
    """Whether the rule would have it go on, or would have stopped it before."""
    good, poor = [0.1, 0.9] + [0.2] * 18, [0.1, 0.2] + [0.1] * 18
    assert drive(stopping(scheduler, 4, exempt=1), [good, good]) == [6, 6]
    assert drive(stopping(scheduler, 4, exempt=6), [GOOD] * 6 + [poor]) == [20] * 6 + [6]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_trial_is_compared_only_with_those_that_chose_the_same_from_lists(scheduler):
    """Each kind lasts as long as in a study of its own, in whatever order they come."""
    curves = random_curves(seed=4)
    kinds = ["relu" if number % 3 else "linear" for number in range(len(curves))]
    together = stopping(scheduler, 6)
    for number, kind in enumerate(kinds):
        values = {"alpha": float(number), "latent_activation": kind}
        together.handle(
            Proposed(number, values if number % 2 else dict(reversed(values.items())), "tpe")
        )
    lasted = drive(together, curves)
    for kind in set(kinds):
        of_kind = [number for number in range(len(curves)) if kinds[number] == kind]
        alone = drive(stopping(scheduler, 6), [curves[number] for number in of_kind])
        assert [lasted[number] for number in of_kind] == alone
    if scheduler != "none":
        assert drive(stopping(scheduler, 6), curves) != lasted


def test_a_study_without_a_spared_configuration_spares_none():
    assert drive(Stopping(never, 3), [BAD, BAD]) == [4, 4]


def random_curves(seed, count=24, epochs=20):
    random = np.random.default_rng(seed)
    return [
        np.maximum.accumulate(random.random() * random.random(epochs)).tolist()
        for _ in range(count)
    ]


def events_of(curves, lasted, until=None, paper=None):
    """Return what a log holds of these curves; the trial ``until`` has not ended."""
    events = []
    for number, (curve, epochs) in enumerate(zip(curves, lasted, strict=True)):
        origin = "paper" if number == paper else "random"
        events.append(Proposed(number, {"alpha": number}, origin))
        events += [epoch_of(number, curve, epoch) for epoch in range(1, epochs + 1)]
        if number == until:
            return events
        status = "finished" if epochs == len(curve) else "stopped_early"
        events.append(Ended(number, status, ""))
    return events


def told(stopping, events):
    for event in events:
        stopping.handle(event)
    return stopping


@pytest.mark.parametrize("cut", [1, 7, 20])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_rule_that_is_told_of_the_past_decides_as_if_it_had_been_there(scheduler, cut):
    curves = random_curves(seed=1)
    lasted = drive(stopping(scheduler, 6, exempt=0), curves)
    assert len(set(lasted)) > 2
    again = told(stopping(scheduler, 6, exempt=0), events_of(curves[:cut], lasted[:cut]))
    assert drive(again, curves, first=cut) == lasted[cut:]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_papers_configuration_is_spared_where_the_past_had_it(scheduler):
    curves = [GOOD] * 5 + [BAD] + [GOOD] * 3
    lasted = drive(stopping(scheduler, exempt=5), curves)
    past = events_of(curves[:6], [*lasted[:5], 19], until=5, paper=5)
    again = told(stopping(scheduler, exempt=8), past)
    assert again.exempt == 5
    assert 5 not in again.stopped
    again.handle(epoch_of(5, BAD, 20))
    again.handle(Ended(5, "finished", ""))
    assert drive(again, curves, first=6) == lasted[6:]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_trial_that_goes_on_is_judged_as_if_it_had_never_paused(scheduler):
    curves = random_curves(seed=2)
    lasted = drive(stopping(scheduler, 6), curves)
    cut = next(n for n in range(5, 24) if lasted[n] > 1)
    half = [*lasted[:cut], lasted[cut] - 1]
    again = told(stopping(scheduler, 6), events_of(curves[: cut + 1], half, until=cut))
    assert cut not in again.stopped
    again.handle(epoch_of(cut, curves[cut], lasted[cut]))
    assert (cut in again.stopped) == (lasted[cut] < 20)
    again.handle(Ended(cut, "finished", ""))
    assert drive(again, curves, first=cut + 1) == lasted[cut + 1 :]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_stop_that_was_decided_but_not_written_is_decided_again(scheduler):
    curves = random_curves(seed=3)
    lasted = drive(stopping(scheduler, 6), curves)
    cut = next(n for n in range(5, 24) if lasted[n] < 20)
    past = events_of(curves[: cut + 1], lasted[: cut + 1], until=cut)
    assert cut in told(stopping(scheduler, 6), past).stopped


# Ray Tune's own schedulers, told of the same epochs

EPOCHS = 20
ORACLES = {
    "asha": lambda: ASHAScheduler(
        time_attr=EPOCH, max_t=EPOCHS + 1, grace_period=2, reduction_factor=3
    ),
    "median": lambda: MedianStoppingRule(
        time_attr=EPOCH, grace_period=5, min_samples_required=3, min_time_slice=EPOCHS
    ),
    "none": FIFOScheduler,
}
INTERLEAVED = st.tuples(
    st.integers(0, 2**32), st.lists(st.integers(0, 7), min_size=EPOCHS, max_size=200)
)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@given(history=INTERLEAVED)
def test_every_decision_is_that_of_ray_tunes_own_scheduler(scheduler, history):
    """Trials interleaved in any order, many of their scores equal."""
    seed, order = history
    random = np.random.default_rng(seed)
    oracle, ours = ORACLES[scheduler](), stopping(scheduler)
    oracle.set_search_properties(SCORE, "max")
    controller = SimpleNamespace(get_live_trials=list)
    trials, epochs, scores = {}, Counter(), {}
    for number in order:
        if epochs[number] == EPOCHS:
            continue
        if number not in trials:
            trials[number] = FakeTrial({}, trial_id=str(number))
            oracle.on_trial_add(controller, trials[number])
        epochs[number] += 1
        scores[number] = max(scores.get(number, 0.0), round(8 * random.random()) / 8)
        event = EpochDone(number, epochs[number], scores[number], epochs[number], {})
        result = {EPOCH: event.epoch, SCORE: event.score}
        theirs = oracle.on_trial_result(controller, trials[number], result)
        assert ours.should_stop(event) == (theirs == TrialScheduler.STOP)
        ours.handle(event)
        if theirs == TrialScheduler.STOP:
            epochs[number] = EPOCHS


# Behind Ray Tune's interface


def test_a_scheduler_asks_and_does_not_learn():
    rule = stopping("none", 3)
    scheduler, trial = StoppingScheduler(rule), FakeTrial({NUMBER: 4})

    def asked(epoch, **more):
        result = {EPOCH: epoch, SCORE: 0.1, BEST_EPOCH: 1, METRICS: [], **more}
        return scheduler.on_trial_result(None, trial, result)

    assert asked(3) == TrialScheduler.CONTINUE
    assert [asked(4), asked(4)] == [TrialScheduler.STOP] * 2
    rule.handle(EpochDone(4, 4, 0.1, 2, {}))
    assert asked(4) == TrialScheduler.CONTINUE, "repeated by a worker that took the trial up again"
    assert asked(5, **{INFEASIBLE: "not finite"}) == TrialScheduler.STOP
    assert asked(5, **{BROKEN: "an error"}) == TrialScheduler.CONTINUE, "to the error that follows"


def test_who_waits_is_found_without_a_look_at_all_trials_of_a_study():
    waiting = [FakeTrial({NUMBER: n}, status="PENDING") for n in (7, 5, 6)]
    running = FakeTrial({NUMBER: 4})
    controller = SimpleNamespace(get_live_trials=lambda: {running, *waiting})
    scheduler = StoppingScheduler(stopping("asha"))
    assert scheduler.choose_trial_to_run(controller) is waiting[1]
    controller.get_live_trials = lambda: {running}
    assert scheduler.choose_trial_to_run(controller) is None
