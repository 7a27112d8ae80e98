"""How trials stand: what is asked after each event, against counting all of them anew."""

import math
from collections import Counter
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from ray.tune.trainable.metadata import _TrainingRunMetadata
from recorded import OPENED

from tuning.compute.display import StatusLine
from tuning.engine.progress import SearchProgress
from tuning.engine.results import NUMBER
from tuning.events.event import Ended, EpochDone, Proposed
from tuning.events.state import State

STATUSES = ("finished", "stopped_early", "infeasible", "failed")
SCORES = st.sampled_from([math.nan, 0.0, 0.1, 0.2, 0.2, 0.3])
STEPS = st.lists(st.tuples(st.integers(0, 99), SCORES, st.sampled_from(("", *STATUSES))))


def events(steps):
    """Turn numbers into a history: a trial's score never falls, and nothing follows its end."""
    running, begun = {}, 0
    for choice, score, end in steps:
        if not running or choice % 3 == 0:
            running[begun] = [0, math.nan]
            yield Proposed(begun, {}, "qmc")
            begun += 1
            continue
        number = list(running)[choice % len(running)]
        if end:
            del running[number]
            yield Ended(number, end, "")
        else:
            epoch, best = running[number]
            best = score if math.isnan(best) else max(best, score)
            running[number] = [epoch + 1, best]
            yield EpochDone(number, epoch + 1, best, 1, {})


@given(STEPS)
def test_they_are_what_counting_anew_says(steps):
    standings = State()
    standings.apply(OPENED)
    for event in events(steps):
        standings.apply(event)
        everyone = list(standings.trials.values())
        assert standings.counts == Counter(s.status for s in everyone)
        assert standings.running == [s for s in everyone if s.status == "running"]
        scored = [
            s
            for s in everyone
            if s.status not in ("infeasible", "failed") and math.isfinite(s.score)
        ]
        assert standings.best is max(scored, key=lambda s: s.score, default=None)


def test_of_a_trial_that_ended_the_last_values_are_forgotten():
    """Ray Tune keeps the trials of a study as long as it runs."""
    standings, told = State(), []
    for event in (OPENED, Proposed(0, {}, "qmc"), EpochDone(0, 9, 0.5, 9, {})):
        standings.apply(event)
    study = SimpleNamespace(trials=1, max_epochs=9, goal=SimpleNamespace(symbol="H"))
    progress = SearchProgress(told.append, standings, study, None, StatusLine(), 1)
    metadata = _TrainingRunMetadata()
    metadata.update_metric("score", 0.5)
    assert metadata.metric_n_steps
    trial = SimpleNamespace(config={NUMBER: 0}, run_metadata=metadata)
    progress.on_trial_complete(1, [trial], trial)
    assert told == [Ended(0, "finished", "")]
    assert not metadata.metric_n_steps
