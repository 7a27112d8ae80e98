"""A contract of every sampler: after a resume it proposes what it would have proposed anyway."""

import functools
import math
import random

import numpy as np
import optuna
import pytest
from ray.tune.search import Searcher

from tuning.engine.samplers import SAMPLERS
from tuning.engine.searcher import Proposer, StudySearcher
from tuning.events.event import Ended, EpochDone, Proposed
from tuning.spec.space import search_space

optuna.logging.set_verbosity(optuna.logging.ERROR)

SPACE = search_space(("alpha", "learning_rate", "latent_multiplier"))
PAPER = {"alpha": 1000.0, "learning_rate": 1e-4, "latent_multiplier": 2.0}
TRIALS = 14


def proposer(sampler, seed=3, paper_at=0):
    return Proposer(SPACE, sampler=sampler, seed=seed, paper=PAPER, paper_at=paper_at)


def score(proposed):
    return 1 / (1 + abs(math.log10(proposed.configuration["alpha"]) - 1))


@functools.cache
def history(sampler, workers, paper_at=0):
    """Run a study; return its events in order. Trials end in an order that differs from theirs."""
    chance, source = random.Random(5), proposer(sampler, paper_at=paper_at)
    events, running = [], []

    def happens(event):
        events.append(event)
        source.handle(event)

    for number in range(TRIALS):
        proposed = source.propose()
        happens(proposed)
        running.append(proposed)
        if len(running) == workers:
            done = running.pop(chance.randrange(workers))
            status = {4: "infeasible", 5: "failed", 6: "stopped_early"}.get(number, "finished")
            happens(EpochDone(done.number, 1, score(done), 1, {}))
            happens(Ended(done.number, status, ""))
    return events


def resumed(sampler, past, paper_at=0):
    again = proposer(sampler, paper_at=paper_at)
    for event in past:
        again.handle(event)
    return again


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_after_a_cut_anywhere_the_same_is_proposed(sampler, workers):
    events = history(sampler, workers)
    proposals = [i for i, event in enumerate(events) if isinstance(event, Proposed)]
    for place in proposals[:: 5 if sampler == "gp" else 3]:
        assert resumed(sampler, events[:place]).propose() == events[place]


@pytest.mark.parametrize("paper_at", [0, 8, TRIALS - 1])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_papers_configuration_has_its_place_and_is_proposed_once(sampler, paper_at):
    proposals = [e for e in history(sampler, 1, paper_at) if isinstance(e, Proposed)]
    assert [proposed.number for proposed in proposals] == list(range(TRIALS))
    paper = proposals.pop(paper_at)
    assert (paper.configuration, paper.origin) == (PAPER, "paper")
    assert {other.origin for other in proposals} == {sampler}
    assert all(other.configuration != PAPER for other in proposals)


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_a_study_that_had_the_papers_elsewhere_goes_on_as_it_would_have(sampler, caplog):
    events = history(sampler, 1, paper_at=2)
    proposals = [event for event in events if isinstance(event, Proposed)]
    again = resumed(sampler, events[: events.index(proposals[5])], paper_at=8)
    assert again.paper_at == 2
    for proposed in proposals[5:]:
        assert again.propose() == proposed
        place = events.index(proposed)
        for event in events[place + 1 : place + 3]:
            again.handle(event)
    assert not caplog.text


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_was_really_proposed_counts_where_the_sampler_says_another_thing(sampler, caplog):
    events = history(sampler, 1)
    changed = [
        Proposed(e.number, {**e.configuration, "alpha": 7.0}, e.origin)
        if isinstance(e, Proposed) and e.number == 9
        else e
        for e in events
    ]
    again = resumed(sampler, changed)
    assert "does not reproduce its proposal for trial 9" in caplog.text
    trials = again._study.get_trials()
    assert len(trials) == TRIALS
    assert trials[9].params["alpha"] == 7.0
    assert [t.params for t in trials] == [
        e.configuration for e in changed if isinstance(e, Proposed)
    ]
    assert again.propose().number == TRIALS


def test_what_a_sampler_learns_of_each_end():
    source = proposer("random")
    for status in ("finished", "stopped_early", "infeasible", "failed"):
        proposed = source.propose()
        source.handle(proposed)
        source.handle(EpochDone(proposed.number, 1, 0.5, 1, {}))
        source.handle(Ended(proposed.number, status, ""))
    source.propose()
    states = [(t.state.name, t.value) for t in source._study.get_trials()]
    told = [("COMPLETE", 0.5), ("COMPLETE", 0.5), ("COMPLETE", 0.0), ("FAIL", None)]
    assert states == [*told, ("RUNNING", None)]


def test_unfinished_trials_come_first_with_their_old_numbers():
    new = iter([Proposed(9, {"alpha": 3.0}, "tpe")])
    old = [Proposed(2, {"alpha": 1.0}, "tpe"), Proposed(5, {"alpha": 2.0}, "tpe")]
    searcher = StudySearcher(old, lambda: next(new), lambda: True)
    assert [searcher.suggest(str(i))["number"] for i in range(3)] == [2, 5, 9]


def test_a_search_is_not_over_while_a_trial_may_come_back():
    only, running = Proposed(0, {"alpha": 1.0}, "tpe"), [True]
    new = iter([only, None, None, None, None])
    searcher = StudySearcher([], lambda: next(new), lambda: running[0])
    assert searcher.suggest("a")["number"] == 0
    assert searcher.suggest("b") is None
    searcher.retry(only)
    assert searcher.suggest("c")["number"] == 0
    assert searcher.suggest("d") is None
    running[0] = False
    assert searcher.suggest("e") == Searcher.FINISHED


def test_none_is_handed_out_while_one_waits_for_a_whole_gpu():
    first, second = (Proposed(number, {"alpha": 1.0}, "tpe") for number in range(2))
    new = iter([second])
    searcher = StudySearcher([], lambda: next(new), lambda: True)
    searcher.retry_with_whole_gpu(first)
    handed = {"number": 0, "hyperparameters": {"alpha": 1.0}, "whole_gpu": True}
    assert searcher.suggest("a") == handed
    assert searcher.suggest("b") is None
    searcher.started(0)
    assert searcher.suggest("c") == {"number": 1, "hyperparameters": {"alpha": 1.0}}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sixteen_parallel_proposals_do_not_pile_up(sampler):
    source = proposer(sampler)
    for _ in range(12):
        proposed = source.propose()
        source.handle(EpochDone(proposed.number, 1, score(proposed), 1, {}))
        source.handle(Ended(proposed.number, "finished", ""))
    pending = np.array([place(source.propose()) for _ in range(16)])
    distance = np.linalg.norm(pending[:, None] - pending[None], axis=-1)
    nearest = (distance + 9 * np.eye(16)).min(1)
    assert nearest.min() > 0.003
    assert np.median(nearest) > 0.02


def place(proposed):
    """Return where a configuration lies in the space, each hyperparameter from 0 to 1."""
    return [
        math.log(proposed.configuration[name] / of.low) / math.log(of.high / of.low)
        for name, of in SPACE.items()
    ]
