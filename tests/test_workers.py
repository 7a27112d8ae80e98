"""Workers go from trial to trial, until their process has kept too much memory."""

import os

import forks
import pytest
import ray
from recorded import OPENED

from mianet.data.search_data import load_search_data
from tuning.compute.cluster import Share
from tuning.compute.display import StatusLine
from tuning.engine import results, running
from tuning.engine.interrupts import Interrupt
from tuning.engine.study import Study
from tuning.events.event import EpochDone
from tuning.events.log import open_log
from tuning.spec.space import search_space

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
    study = Study(
        name="s",
        space=search_space(),
        fixed={},
        trials=TRIALS,
        max_epochs=1,
        patience=1,
        executions=1,
        seed=0,
        sampler="random",
        scheduler="none",
    )
    with open_log(tmp_path / "s") as log:
        log.begin(OPENED)
        data = ray.put(load_search_data("numbers"))
        running.run_study(study, "numbers", data, Share(1, 1, 0), log, Interrupt(), StatusLine())
    with open_log(tmp_path / "s") as log:
        processes = [event.score for event, _ in log.read() if isinstance(event, EpochDone)]
    assert len(processes) == TRIALS
    assert [processes.count(one) for one in dict.fromkeys(processes)] == trials_of_each
