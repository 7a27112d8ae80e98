"""How trials share GPUs: what one needs, what there is, and the choice between them."""

import re

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from torch.autograd.profiler import profile
from worlds import small_search_data, small_settings

from mianet.config import Hyperparameters
from mianet.data.search_data import load_search_data
from mianet.data.test_parts import load_test_parts
from mianet.final_training import measure
from mianet.validation import Validation
from tuning.compute import gpu_check
from tuning.compute.gpu_check import memory_of_gpus, smallest_gpu
from tuning.compute.gpu_limit import CONTEXT_BYTES, GIB
from tuning.compute.gpu_share import (
    MemoryNeed,
    choose_share,
    describe_request,
    estimate_need,
    gpu_fraction,
    largest_settings,
    search_need,
)
from tuning.finals.training import training_need
from tuning.spec.models import MODELS

AWA1 = {"images": 19_832, "feature_dim": 2048, "attribute_dim": 85, "classes": 40}


def peak_of(work):
    """Return the most bytes that tensors took at once while the work was done."""
    with profile(profile_memory=True, use_cpu=True) as profiled:
        work()
    events = [e for e in profiled.kineto_results.events() if e.name() == "[memory]"]
    assert len(events) > 50
    events.sort(key=lambda event: event.start_ns())
    return int(np.cumsum([event.nbytes() for event in events]).max())


@pytest.mark.parametrize(
    ("executions", "changes"),
    [
        (1, {"hidden_dim": 128, "latent_multiplier": 4.0}),
        (3, {"hidden_dim": 256, "latent_multiplier": 4.0}),
        (2, {"hidden_dim": 256, "batch_images": 64, "reconstruction": "self"}),
        (2, {"hidden_dim": 128, "strategy": "joint"}),
    ],
)
def test_a_need_covers_what_a_trial_really_takes_and_little_more(executions, changes):
    data = small_search_data(classes=12, per_class=12, width=150, attributes=20)
    settings = small_settings(**changes)

    def work():
        Validation(data, settings, executions=executions).epoch()

    need = search_need(data, [settings], executions)
    really = data.features.nbytes + peak_of(work)  # the device would hold a copy of the data
    assert really <= need.total - CONTEXT_BYTES <= 3 * really


def test_a_need_covers_measuring_a_training_on_all_images():
    data, test = load_search_data("numbers", None), load_test_parts("numbers", None)
    settings = small_settings(hidden_dim=256, latent_multiplier=4.0)
    need = training_need([settings], data, test)
    held_out = (test.test_seen_features, test.test_unseen_features)
    really = sum(features.nbytes for features in (data.features, *held_out))
    really += peak_of(lambda: measure(data, test, settings, epochs=2, seed=0))
    assert really <= need.total - CONTEXT_BYTES


def test_weights_are_counted():
    need = estimate_need([Hyperparameters()], **AWA1, executions=5)
    latent = 2 * 40
    biases = 2048 + latent + latent + 2048 + 2048 + 85
    discriminator = latent * 30 + 30 + 30 * 2 + 2
    weights = 2048 * 2048 + 2048 * latent + 85 * latent + biases + discriminator
    assert need.weights == 4 * 4 * 5 * weights
    assert need.data >= 4 * AWA1["images"] * AWA1["feature_dim"]


def test_a_model_that_nobody_estimated_has_no_need():
    (name,) = [name for name in MODELS if name == "eszsl"]
    settings = MODELS[name].settings()
    assert estimate_need([settings], **AWA1) is None
    assert search_need(small_search_data(), [Hyperparameters(), settings]) is None


def test_searched_sizes_count_as_the_largest():
    space = {
        "latent_multiplier": FloatDistribution(0.5, 4.0, log=True),
        "hidden_dim": IntDistribution(256, 4096, log=True),
        "batch_images": CategoricalDistribution([32, 300, 64]),
        "alpha": FloatDistribution(1e-5, 1e4, log=True),
    }
    largest = largest_settings(Hyperparameters(), space)
    sizes = (largest.latent_multiplier, largest.hidden_dim, largest.batch_images, largest.alpha)
    assert sizes == (4.0, 4096, 300, 1000.0)


def need(gib):
    return MemoryNeed(int(gib * GIB) - CONTEXT_BYTES, 0, 0)


ONE = [{"CPU": 16, "GPU": 1}]
UNEQUAL = [{"CPU": 0}, {"CPU": 64, "GPU": 8}, {"CPU": 3, "GPU": 1}]


@pytest.mark.parametrize(
    ("nodes", "wanted", "needs", "device", "gpus", "why"),
    [
        (ONE, 12, need(2), 24 * GIB, 0.25, "4 per GPU, limited by the default maximum"),
        (ONE, 12, need(7), 24 * GIB, 0.3333, "3 per GPU, limited by GPU memory"),
        (ONE, 12, need(12), 24 * GIB, 0.5, "2 per GPU, limited by GPU memory"),
        (ONE, 12, need(13), 24 * GIB, 1.0, "1 per GPU, limited by GPU memory"),
        (ONE, 12, need(25), 24 * GIB, 1.0, "25.0 GiB .* has 24.0 GiB: it may not fit"),
        (ONE, 2, need(2), 24 * GIB, 0.5, "2 per GPU, limited by the number of trials at once"),
        (ONE, 1, need(2), 24 * GIB, 1.0, "1 GPUs are enough for 1 trials at once"),
        (UNEQUAL, 9, need(2), 24 * GIB, 1.0, "9 GPUs are enough for 9 trials"),
        (UNEQUAL, 10, need(2), 24 * GIB, 0.5, "2 per GPU, limited by the number of trials at once"),
        (UNEQUAL, 99, need(2), 24 * GIB, 0.3333, "3 per GPU, limited by the CPU cores per GPU"),
        (ONE, 12, None, 24 * GIB, 1.0, "cannot be estimated"),
        (ONE, 12, need(2), None, 1.0, "memory of the GPUs is unknown"),
    ],
)
def test_the_default_is_chosen_and_says_why(nodes, wanted, needs, device, gpus, why):
    got, reason = choose_share(nodes, wanted=wanted, need=needs, device_bytes=device)
    assert got == gpus
    assert re.search(why, reason), reason


@pytest.mark.parametrize("trials", range(1, 9))
def test_so_many_shares_fit_a_gpu_as_ray_counts(trials):
    in_ray = round(gpu_fraction(trials) * 10_000)
    assert in_ray * trials <= 10_000 < in_ray * (trials + 1)


@pytest.mark.parametrize(
    ("gpus", "needs", "device", "doubt"),
    [
        (0.25, need(5), 24 * GIB, False),
        (0.25, need(7), 24 * GIB, True),
        (1.0, need(30), 24 * GIB, False),
        (0.25, None, 24 * GIB, False),
        (0.25, need(7), None, False),
    ],
)
def test_a_share_that_was_asked_for_is_doubted_where_it_is_known_to_be_small(
    gpus, needs, device, doubt
):
    assert ("it may not fit" in describe_request(gpus, needs, device)) == doubt


class TestTheDevices:
    @pytest.fixture
    def driver(self, tmp_path, monkeypatch):
        """A machine whose driver knows these GPUs."""

        def says(*lines):
            program = tmp_path / "nvidia-smi"
            program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
            program.chmod(0o755)
            monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

        return says

    def test_their_memory_is_what_the_driver_says(self, driver):
        driver("23028", "81559")
        assert memory_of_gpus() == [23028 * 2**20, 81559 * 2**20]

    def test_of_instances_it_does_not_say_the_memory(self, driver):
        driver("81559, Enabled", "24564, Disabled", "23028, [N/A]")
        assert memory_of_gpus() == [24564 * 2**20, 23028 * 2**20]

    @pytest.mark.parametrize("line", ["No devices were found", "[N/A]"])
    def test_a_driver_that_does_not_say_is_no_error(self, driver, line):
        driver(line)
        assert memory_of_gpus() == []

    def test_a_machine_without_a_driver_has_none(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        assert memory_of_gpus() == []

    def test_a_planned_node_says_it_by_a_resource(self, monkeypatch):
        nodes = [{"Resources": {"CPU": 0}}, {"Resources": {"GPU": 1, "gpu_memory": 22}}]
        assert smallest_gpu(nodes) == 22 * GIB

    def test_nobody_is_asked_where_there_is_no_gpu(self):
        assert smallest_gpu([{"Resources": {"CPU": 2}, "NodeID": "a"}]) is None

    def test_each_node_is_asked_and_the_smallest_counts(self, monkeypatch):
        """Without Ray: each node answers by its id, one not at all."""
        answers = {"a" * 56: [80 * GIB], "b" * 56: [24 * GIB, 16 * GIB], "c" * 56: None}

        class Asked:
            def options(self, *, scheduling_strategy):
                self.node = scheduling_strategy.node_id
                return self

            def remote(self):
                return self.node

        monkeypatch.setattr(gpu_check.ray, "remote", lambda **_: lambda function: Asked())
        monkeypatch.setattr(
            gpu_check.ray,
            "wait",
            lambda asked, **_: ([a for a in asked if answers[a]], []),
        )
        monkeypatch.setattr(gpu_check.ray, "get", answers.get)
        nodes = [{"Resources": {"GPU": 2}, "NodeID": node} for node in answers]
        assert smallest_gpu(nodes) == 16 * GIB


def test_settings_of_a_space_are_those_of_the_largest_model():
    shape = {"images": 10, "feature_dim": 8, "attribute_dim": 4, "classes": 6}
    small, large = (
        estimate_need([Hyperparameters(latent_multiplier=m, hidden_dim=h)], **shape)
        for m, h in ((1.0, 16), (4.0, 64))
    )
    assert large.total > small.total
    assert str(large).startswith("about ")
