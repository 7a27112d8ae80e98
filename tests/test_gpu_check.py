"""GPUs that Ray counts: found unusable before the first trial, or too small for a trial's share."""

import forks
import pytest
import ray
import torch
from stand_in_search import events_of_search

from mianet.errors import InputError
from tuning.compute import cluster, gpu_check
from tuning.compute.cluster import Share
from tuning.compute.gpu_check import cuda_problem
from tuning.engine import results, running
from tuning.events.event import Ended, EpochDone


@pytest.fixture(scope="module")
def counted():
    """A Ray that counts a GPU, which is not there."""
    quiet = {"include_dashboard": False, "log_to_driver": False}
    with forks.forked_workers():
        ray.init(address="local", num_cpus=2, num_gpus=1, **quiet)
        yield
        ray.shutdown()


@pytest.mark.skipif(torch.version.cuda is not None, reason="this PyTorch can use GPUs")
def test_a_pytorch_for_cpus_is_one_line(counted):
    with pytest.raises(InputError, match=r"on [\d.]+ PyTorch .* is a CPU build.*per-trial 0$"):
        cluster.share_resources(4)
    assert cluster.share_resources(4, gpus_per_trial=0).gpus == 0


DRIVER = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update it.\nMore"
)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError(DRIVER), "too old (found version 11040)"),
        (RuntimeError(DRIVER), "update the driver, or install a PyTorch that was built for an old"),
        (RuntimeError("No CUDA GPUs are available"), "with CUDA_VISIBLE_DEVICES=7; CUDA_VISIBLE_"),
        (RuntimeError("CUDA error: invalid device ordinal"), "must name GPUs that nvidia-smi -L"),
        (RuntimeError("CUDA error: unknown"), "run nvidia-smi there to find out why"),
        (AssertionError("Torch not compiled"), "Torch not compiled"),
    ],
)
def test_what_cuda_says_is_one_line_that_says_what_to_do(monkeypatch, error, words):
    def init():
        raise error

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", init)
    reason = cuda_problem()
    assert words in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("given", "gpus", "is_hidden"),
    [("", [1], True), ("-1", [1], True), ("", [], False), ("0", [1], False), (None, [1], False)],
)
def test_gpus_that_the_environment_hides_are_spoken_of(monkeypatch, given, gpus, is_hidden):
    monkeypatch.setattr(gpu_check, "memory_of_gpus", lambda: gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2}}])
    share = cluster.share_resources(8)
    assert ("hides the GPUs of this machine" in share.each) == is_hidden


def trials_that_need(gpus_of):
    """Return a trainable: each trial needs so much of a GPU, and tells of an epoch if it has it."""
    names = ("EPOCH", "SCORE", "BEST_EPOCH", "METRICS", "TOO_LARGE", "BROKEN", "NUMBER")
    key = {name: getattr(results, name) for name in names}

    def trainable(config, data, plan):
        import ray
        from ray import tune

        has = ray.get_runtime_context().get_assigned_resources()["GPU"]
        told = {key["EPOCH"]: 1, key["SCORE"]: has, key["BEST_EPOCH"]: 1, key["METRICS"]: []}
        if has < gpus_of[config[key["NUMBER"]]]:
            tune.report({**told, key["TOO_LARGE" if has < 1 else "BROKEN"]: "it is too large"})
            raise MemoryError
        tune.report(told)

    return trainable


def test_a_trial_that_exceeds_its_share_is_tried_again_with_a_whole_gpu(
    counted, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(running, "objective", trials_that_need([1.0, 2.0]))
    events = events_of_search(
        *(tmp_path, Share(2, 0.5, 0.5)),
        trials=2,
        max_epochs=1,
        patience=1,
        executions=1,
        seed=0,
        sampler="random",
        scheduler="none",
    )
    ends = {event.number: event for event in events if isinstance(event, Ended)}
    scores = {e.number: e.score for e in events if isinstance(e, EpochDone)}
    assert [ends[number].status for number in range(2)] == ["finished", "failed"]
    assert ends[1].reason == "it is too large"
    assert scores == {0: 1.0}
    told = capsys.readouterr().out
    assert told.count("is retried with a whole GPU: it is too large") == 2
