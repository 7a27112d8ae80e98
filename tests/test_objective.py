"""What a trial reports, epoch by epoch."""

import pytest
from worlds import small_search_data, small_settings

from tuning import objective as module
from tuning.objective import Plan, objective


@pytest.fixture
def reports(monkeypatch):
    received = []
    monkeypatch.setattr(module.tune, "report", received.append)
    return received


def plan(**changes):
    values = {
        "epochs": 20,
        "executions": 2,
        "seed": 0,
        "settings": small_settings(),
        "threads": 1,
        "device": "cpu",
    }
    return Plan(**{**values, **changes})


def test_the_score_is_the_best_mean_so_far_and_says_where(reports):
    objective({"learning_rate": 0.01}, small_search_data(), plan())
    assert len(reports) == 20
    curve = [r["val_harmonic_mean"] for r in reports]
    for number, report in enumerate(reports, 1):
        assert report["score"] == max(curve[:number])
        assert report["best_epoch"] == curve.index(report["score"]) + 1
        executions = [report[f"val_harmonic_mean_execution_{k}"] for k in range(2)]
        assert report["val_harmonic_mean"] == pytest.approx(sum(executions) / 2)


def test_divergence_is_reported_as_the_lowest_score(reports):
    objective({"learning_rate": 1e30}, small_search_data(), plan())
    assert reports[-1]["score"] == 0.0
    assert "not finite" in reports[-1]["infeasible"]
