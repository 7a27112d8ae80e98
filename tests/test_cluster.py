"""How trials share a cluster, on plain numbers."""

import pytest
import yaml

from mianet.errors import InputError
from tuning.compute import cluster
from tuning.compute.gpu_share import MemoryNeed

TWO_CORES = [{"CPU": 2}]
WORKSTATION = [{"CPU": 16, "GPU": 2}]
CLUSTER = [{"CPU": 4}, {"CPU": 16, "GPU": 4}, {"CPU": 16, "GPU": 4}]


@pytest.fixture
def share(monkeypatch):
    def of(nodes, trials, **options):
        alive = [{"Alive": True, "Resources": node} for node in nodes]
        gone = [{"Alive": False, "Resources": {"CPU": 999, "GPU": 999}}]
        monkeypatch.setattr(cluster.ray, "nodes", lambda: alive + gone)
        return cluster.share_resources(trials, **options)

    monkeypatch.setattr(cluster, "smallest_gpu", lambda nodes: None)
    return of


@pytest.mark.parametrize(
    ("nodes", "trials", "options", "expected"),
    [
        (TWO_CORES, 30, {}, (2, 1, 0)),
        (TWO_CORES, 30, {"workers": 1}, (1, 2, 0)),
        (TWO_CORES, 1, {}, (1, 2, 0)),
        (TWO_CORES, 30, {"cpus_per_trial": 2}, (1, 2, 0)),
        ([{"CPU": 64}], 40, {}, (10, 6, 0)),
        (WORKSTATION, 30, {}, (2, 8, 1)),
        (WORKSTATION, 30, {"gpus_per_trial": 0.25}, (8, 2, 0.25)),
        (WORKSTATION, 40, {"gpus_per_trial": 0}, (10, 1, 0)),
        (CLUSTER, 50, {}, (8, 4, 1)),
        (CLUSTER, 50, {"gpus_per_trial": 2}, (4, 8, 2)),
        (CLUSTER, 3, {"gpus_per_trial": 0.5}, (3, 8, 0.5)),
    ],
)
def test_shares(share, nodes, trials, options, expected):
    got = share(nodes, trials, **options)
    assert (got.workers, got.cpus, got.gpus) == expected
    assert got.device == ("cuda" if expected[2] else "cpu")


UNEQUAL = [{"CPU": 0}, {"CPU": 64, "GPU": 8}, {"CPU": 4, "GPU": 1}, {"CPU": 2, "GPU": 4}]
NEED = MemoryNeed(data=2**30, weights=2**30, work=2**30)


@pytest.mark.parametrize(
    ("trials", "options", "expected", "threads"),
    [
        (100, {"gpus_per_trial": 1}, (13, 0.5, 1), 1),  # the last node has two GPUs a core
        (100, {"gpus_per_trial": 0.25}, (52, 0.12, 0.25), 1),
        (100, {"gpus_per_trial": 0.4}, (26, 0.25, 0.4), 1),  # two on a GPU, not five on two
        (100, {"gpus_per_trial": 4}, (3, 2, 4), 2),  # the node with one GPU cannot
        (100, {"gpus_per_trial": 1, "cpus_per_trial": 1}, (11, 1, 1), 1),
    ],
)
def test_unequal_nodes_are_used_fully(share, trials, options, expected, threads):
    got = share(UNEQUAL, trials, **options)
    assert (got.workers, got.cpus, got.gpus) == expected
    assert got.threads == threads


def test_a_large_study_shares_gpus_by_default_and_says_why(share, monkeypatch):
    monkeypatch.setattr(cluster, "smallest_gpu", lambda nodes: 24 * 2**30)
    got = share(CLUSTER, 200, need=NEED)
    assert (got.workers, got.cpus, got.gpus) == (32, 1, 0.25)
    assert got.each.startswith("1 CPU and 0.25 GPU each (a trial needs about 3.8 GiB")
    small = share(CLUSTER, 8, need=NEED)
    assert (small.workers, small.gpus) == (8, 1)
    assert "8 GPUs are enough for 8 trials at once" in small.each


def test_a_share_that_is_too_small_is_doubted_before_the_work_begins(share, monkeypatch):
    monkeypatch.setattr(cluster, "smallest_gpu", lambda nodes: 12 * 2**30)
    assert "it may not fit" in share(CLUSTER, 200, gpus_per_trial=0.25, need=NEED).each
    assert share(CLUSTER, 200, gpus_per_trial=0.5, need=NEED).reason == "as requested"


@pytest.mark.parametrize("options", [{"cpus_per_trial": 3}, {"gpus_per_trial": 1}])
def test_what_can_never_run_is_refused(share, options):
    with pytest.raises(InputError, match="a trial must fit on a node"):
        share(TWO_CORES, 10, **options)


class TestScalingFromZero:
    """The nodes that the autoscaler may start count as if they were there."""

    GPU = {"CPU": 4, "GPU": 1}  # noqa: RUF012

    @pytest.fixture
    def plan(self, tmp_path, monkeypatch):
        def of(**changes):
            types = {
                "head": {"resources": {"CPU": 0}},
                "gpu": {"resources": self.GPU, "max_workers": 8},
            }
            plan = {"available_node_types": types, "head_node_type": "head", "max_workers": 8}
            path = tmp_path / "plan.yaml"
            path.write_text(yaml.safe_dump({**plan, "provider": {"type": "aws"}, **changes}))
            monkeypatch.setenv(cluster.AUTOSCALING_VARIABLE, str(path))

        return of

    @pytest.mark.parametrize(
        ("changes", "options", "expected"),
        [
            ({}, {}, (8, 4, 1)),
            ({"max_workers": 3}, {}, (3, 4, 1)),
            ({}, {"gpus_per_trial": 0.25}, (32, 1, 0.25)),
        ],
    )
    def test_shares(self, plan, share, changes, options, expected):
        plan(**changes)
        got = share([{"CPU": 0}], 50, **options)
        assert (got.workers, got.cpus, got.gpus) == expected

    def test_hosts_of_unknown_size_count_when_they_are_there(self, plan, share):
        types = {"local.cluster.node": {"resources": {}, "max_workers": 2}}
        plan(
            available_node_types=types,
            head_node_type="local.cluster.node",
            provider={"type": "local"},
        )
        got = share([{"CPU": 0}, {"CPU": 4}], 8)
        assert (got.workers, got.cpus, got.gpus) == (2, 2, 0)

    def test_a_file_that_is_no_plan_is_one_line(self, share, tmp_path, monkeypatch):
        path = tmp_path / "plan.yaml"
        path.write_text("a: [")
        monkeypatch.setenv(cluster.AUTOSCALING_VARIABLE, str(path))
        with pytest.raises(InputError, match="MIANET_AUTOSCALING_CONFIG must name the cluster's"):
            share(TWO_CORES, 3)
