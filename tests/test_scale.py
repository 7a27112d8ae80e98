"""The simulation of large searches: what it tells again, and how it takes the time."""

import subprocess
import sys

import pytest
from commands import ROOT, environment
from worlds import small_search_data, small_settings

from mianet.validation import Validation
from tuning.engine.trial import reported
from tuning.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES
from tuning.spec.space import search_space, space_to_json

sys.path.insert(0, str(ROOT / "tests/benchmarks"))
import curve_table
import scale

NAMES = ("alpha", "learning_rate")


@pytest.fixture
def path(tmp_path):
    """Two configurations of five executions and four epochs, and one that diverged."""

    def row(configuration, draw, values, ts, diverged=""):
        return curve_table.Row(
            configuration, draw, values, ts=ts, tr=(5000,) * len(ts), t1=(100,) * len(ts),
            ausuc=ts, calibrated=ts,
            seconds=0.1, diverged=diverged,
        )  # fmt: skip

    rows = [
        *(row(0, k, (1.0, 1e-4), (0, 1000, 5000, 2000)) for k in range(5)),
        *(row(1, k, (100.0, 1e-2), (1000 * k,) * 4) for k in range(5)),
        *(row(2, k, (100.0, 1e-4), (1000,), "not finite") for k in range(5)),
    ]
    about = curve_table.About("numbers", "0" * 64, 1.0, 4, 0, space_to_json(search_space(NAMES)))
    curve_table.write_rows(tmp_path / "c.parquet", about, {row.key: row for row in rows})
    return tmp_path / "c.parquet"


def test_a_configuration_has_the_curve_of_its_nearest_neighbour(path):
    curves = scale.Curves(path, epochs=9, executions=5)
    near = curves.of({"alpha": 3.0, "learning_rate": 2e-4})
    assert [epoch["val_unseen_accuracy"] for epoch in near] == [0.0, 0.1, 0.5, 0.2]
    assert near[2]["val_harmonic_mean"] == pytest.approx(0.5)
    far = curves.of({"alpha": 40.0, "learning_rate": 8e-3})
    assert [far[0][f"val_unseen_accuracy_execution_{k}"] for k in range(5)] == [
        0.0, 0.1, 0.2, 0.3, 0.4,
    ]  # fmt: skip


def test_a_replayed_epoch_has_the_figures_of_a_real_one(path):
    (epoch, *_) = scale.Curves(path, epochs=2, executions=5).of(dict.fromkeys(NAMES, 1.0))
    real = Validation(small_search_data(), small_settings(), executions=5).epoch()
    assert set(epoch) == set(OBJECTIVES[DEFAULT_OBJECTIVE].with_value(reported(real), []))


def test_a_replayed_trial_reports_its_best_so_far_and_ends(path):
    trial = scale.Replay.__new__(scale.Replay)
    trial._curves = scale.Curves(path, epochs=4, executions=5)
    trial.reset_config({"hyperparameters": {"alpha": 1.0, "learning_rate": 1e-4}})
    told = [trial.step() for _ in range(4)]
    assert [result["epoch"] for result in told] == [1, 2, 3, 4]
    assert [result["best_epoch"] for result in told] == [1, 2, 3, 3]
    assert [result["done"] for result in told] == [False, False, False, True]


def test_time_is_counted_once_where_it_was_spent():
    now = iter([0.0, 2.0, 5.0, 6.0])
    clock = scale.Clock(lambda: next(now))
    inner = clock._timed("inner", lambda: None)
    clock._timed("outer", inner)()
    assert clock.seconds == {"outer": 3.0, "inner": 3.0}


@pytest.mark.slow
@pytest.mark.parametrize("way", [(), ("--processes",)])
def test_a_small_one_runs_to_its_end(path, tmp_path, way):
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "tests/benchmarks/scale.py"), "--trials", "12", *way),
            *("--workers", "2", "--nodes", "2", "--sampler", "random"),
            *("--curves", str(path), "--folder", str(tmp_path / "run")),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "12 trials, 2 at once on 2 nodes" in done.stdout
