"""A training keeps to its share of a GPU: on a device of which only the size is real."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from ray.exceptions import RayTaskError
from test_objective import config, plan
from worlds import small_search_data

from mianet.errors import InputError
from tuning.compute import gpu_limit, waiting
from tuning.compute.cluster import Share
from tuning.compute.gpu_limit import CONTEXT_BYTES, GIB, exceeded, limit_to_share
from tuning.engine import trial as module
from tuning.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES


@dataclasses.dataclass
class Device:
    """What the CUDA calls say and are told."""

    total: int = 24 * GIB
    free: int = 24 * GIB
    reserved: int = 0
    fraction: float = 1.0


@pytest.fixture
def device(monkeypatch):
    device = Device()
    cuda = gpu_limit.torch.cuda
    monkeypatch.setattr(
        cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=device.total)
    )
    monkeypatch.setattr(
        cuda,
        "set_per_process_memory_fraction",
        lambda fraction: setattr(device, "fraction", fraction),
    )
    monkeypatch.setattr(cuda, "mem_get_info", lambda: (device.free, device.total))
    monkeypatch.setattr(cuda, "memory_reserved", lambda: device.reserved)
    return device


def test_four_quarters_and_what_cuda_takes_of_each_fit_the_device(device):
    limit_to_share(0.25)
    assert 4 * (device.fraction * device.total + CONTEXT_BYTES) <= device.total
    assert device.fraction * device.total > 0.2 * device.total


def test_a_process_that_is_reused_gets_the_whole_device_again(device):
    limit_to_share(0.25)
    limit_to_share(1.0)
    assert device.fraction == 1.0


def test_a_share_smaller_than_what_cuda_takes_leaves_nothing(device):
    device.total = 2 * GIB
    limit_to_share(0.25)
    assert 0 < device.fraction < 1e-6


def test_on_the_cpu_nothing_is_asked_of_cuda(monkeypatch):
    monkeypatch.setattr(gpu_limit.torch, "cuda", None)
    limit_to_share(0)
    assert exceeded(0) == ""


@pytest.mark.parametrize(
    ("gpus", "free", "reserved", "is_exceeded"),
    [
        (0.25, 10 * GIB, 5 * GIB, True),
        (0.25, 1 * GIB, 5 * GIB, True),  # what was left of the share was there
        (0.25, 1 * GIB, 1 * GIB, False),  # others have taken it
        (1.0, 10 * GIB, 5 * GIB, False),
        (1.0, 1 * GIB, 22 * GIB, True),
    ],
)
def test_an_exceeded_share_is_told_from_a_device_that_others_fill(
    device, gpus, free, reserved, is_exceeded
):
    device.free, device.reserved = free, reserved
    reason = exceeded(gpus)
    assert bool(reason) == is_exceeded
    if reason:
        needed, advice = {
            0.25: ("0.25 of 24.0 GiB", "increase --gpus-per-trial"),
            1.0: ("its 24.0 GiB", "search a smaller model"),
        }[gpus]
        assert f"needs more than {needed}" in reason
        assert reason.endswith(advice)


class TestATrial:
    @pytest.fixture
    def reports(self, monkeypatch):
        received = []
        monkeypatch.setattr(module.tune, "report", received.append)
        return received

    @pytest.fixture(autouse=True)
    def too_large(self, device, monkeypatch):
        def curve(config, data, plan):
            yield {OBJECTIVES[DEFAULT_OBJECTIVE].value: 0.5}
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(module, "curve", curve)
        device.reserved = 5 * GIB
        return device

    def run(self, folder, **handed):
        shared = plan(folder, gpus=0.25)
        with pytest.raises(torch.OutOfMemoryError):
            module.objective(config() | handed, small_search_data(), shared)

    def test_it_is_held_to_its_share(self, reports, tmp_path, too_large):
        self.run(tmp_path)
        assert too_large.fraction == pytest.approx((6 * GIB - CONTEXT_BYTES) / (24 * GIB))

    def test_one_that_exceeds_it_is_reported_as_too_large(self, reports, tmp_path):
        self.run(tmp_path)
        assert reports[-1]["epoch"] == 2
        assert reports[-1]["too_large"].startswith("a training must fit in its share of the GPU")
        assert "broken" not in reports[-1]

    def test_one_that_exceeds_a_whole_gpu_is_broken(self, reports, tmp_path, too_large):
        too_large.free, too_large.reserved = GIB, 22 * GIB
        self.run(tmp_path, whole_gpu=True)
        assert too_large.fraction == 1.0
        assert reports[-1]["broken"].startswith("a training must fit on a GPU")

    def test_one_that_found_the_memory_taken_may_try_again(self, reports, tmp_path, too_large):
        too_large.free = GIB // 2
        too_large.reserved = GIB
        self.run(tmp_path)
        assert [report["epoch"] for report in reports] == [1]


class TestATask:
    def test_one_that_exceeds_its_share_is_one_line(self, device):
        device.reserved = 5 * GIB
        with pytest.raises(InputError, match="must fit in its share of the GPU"):
            waiting.run_timed(Share(1, 1, 0.25), self.too_large)

    def test_other_failures_stay_what_they_are(self, device):
        device.free = 0
        with pytest.raises(torch.OutOfMemoryError):
            waiting.run_timed(Share(1, 1, 0.25), self.too_large)

    def too_large(self):
        raise torch.OutOfMemoryError("CUDA out of memory")

    @pytest.mark.parametrize("cause", [InputError("in one line"), ValueError("a bug")])
    def test_what_a_user_can_mend_comes_back_in_one_line(self, monkeypatch, cause):
        def get(reference):
            raise RayTaskError("f", "traceback", cause)

        monkeypatch.setattr(waiting.ray, "get", get)
        expected = InputError if isinstance(cause, InputError) else RayTaskError
        with pytest.raises(expected) as raised:
            waiting.result_of("reference")
        assert (str(raised.value) == "in one line") == isinstance(cause, InputError)
