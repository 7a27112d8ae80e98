"""Workers go from trial to trial, until their process has kept too much memory."""

import os

import forks
import pytest
import ray
from stand_in_search import events_of_search

from tuning.compute.cluster import Share
from tuning.engine import results, running
from tuning.events.event import EpochDone

TRIALS = 6


@pytest.fixture(scope="module", autouse=True)
def _one_core():
    with forks.forked_workers():
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def grown_after(trials):
    """Return a trainable whose process says after so many trials that it has kept too much.

    The score that it reports is the number of its process.
    """
    names = ("EPOCH", "SCORE", "BEST_EPOCH", "METRICS", "KEPT_BYTES")
    epoch, score, best, metrics, kept = (getattr(results, name) for name in names)
    most = running.MOST_KEPT_BYTES

    def trainable(config, data, plan):
        import builtins

        from ray import tune

        builtins.begun = getattr(builtins, "begun", 0) + 1
        told = {score: float(os.getpid()), best: 1, metrics: []}
        tune.report({**told, epoch: 1, kept: most + (builtins.begun >= trials)})

    return trainable


@pytest.mark.parametrize(("after", "trials_of_each"), [(2, [2, 2, 2]), (9, [6])])
def test_a_worker_that_has_grown_is_replaced(tmp_path, monkeypatch, after, trials_of_each):
    monkeypatch.setattr(running, "objective", grown_after(after))
    events = events_of_search(
        *(tmp_path, Share(1, 1, 0)),
        trials=TRIALS,
        max_epochs=1,
        patience=1,
        executions=1,
        seed=0,
        sampler="random",
        scheduler="none",
    )
    processes = [event.score for event in events if isinstance(event, EpochDone)]
    assert len(processes) == TRIALS
    assert [processes.count(one) for one in dict.fromkeys(processes)] == trials_of_each
