"""How trials share a cluster, on plain numbers."""

import pytest

from mianet.errors import InputError
from tuning import cluster

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


@pytest.mark.parametrize("options", [{"cpus_per_trial": 3}, {"gpus_per_trial": 1}])
def test_what_can_never_run_is_refused(share, options):
    with pytest.raises(InputError, match="a trial must fit a node"):
        share(TWO_CORES, 10, **options)
