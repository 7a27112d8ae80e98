"""Recorded learning curves: what is recorded, and that no kill loses or changes any of it."""

import dataclasses
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "benchmarks"))

import curve_table
from record_curves import Recorder, shared_data, sobol_configurations, train
from worlds import validate

from mianet.data.search_data import load_search_data, paper_hyperparameters
from mianet.evaluation import summarise
from mianet.validation import score_execution
from tuning.spec.space import contains, search_space, space_to_json

UNITS = [(c, draws) for c in (0, 2) for draws in (range(2), range(6, 7))]


@pytest.fixture(scope="module")
def about():
    data = load_search_data("numbers")
    return curve_table.About("numbers", data.digest, 1.0, 2, 0, space_to_json(search_space()))


@pytest.fixture(scope="module")
def rows(about):
    configurations = sobol_configurations(about, 3)
    trained = [train(about, None, c, configurations[c], draws) for c, draws in UNITS]
    return {row.key: row for rows in trained for row in rows}


def test_an_execution_is_that_of_a_search_and_of_its_confirmation(about, rows):
    data = load_search_data("numbers")
    settings = paper_hyperparameters("numbers").replace(
        **dict(zip(about.names, rows[2, 0].values, strict=True))
    )
    searched = list(validate(data, settings, epochs=2, executions=2))
    fresh = score_execution(data, settings, epochs=2, execution=6)
    for draw in (0, 1):
        for epoch in (0, 1):
            expected = searched[epoch].executions[draw]
            row = rows[2, draw]
            assert row.ts[epoch] == round(1e4 * expected.unseen_accuracy)
            assert row.tr[epoch] == round(1e4 * expected.seen_accuracy)
            assert row.t1[epoch] == round(1e4 * expected.zsl_accuracy)
            assert row.ausuc[epoch] == round(1e4 * expected.ausuc)
            assert row.calibrated[epoch] == round(1e4 * expected.calibrated_harmonic_mean)
    (expected,) = summarise([fresh]).executions
    assert rows[2, 6].tr[1] == round(1e4 * expected.seen_accuracy)
    assert rows[2, 6].calibrated[1] == round(1e4 * expected.calibrated_harmonic_mean)


def test_a_diverging_execution_is_recorded_up_to_there(about):
    wild = tuple(
        {"latent_activation": "relu", "learning_rate": 1e30}.get(n, 1.0) for n in about.names
    )
    (row,) = train(dataclasses.replace(about, epochs=5), None, 1, wild, [0])
    assert "after epoch" in row.diverged
    assert len(row.ts) == len(row.tr) == len(row.t1) == len(row.ausuc) < 5


def test_what_a_kill_leaves_goes_on(about, rows, tmp_path):
    path = tmp_path / "numbers.parquet"
    units = [[rows[c, draw] for draw in draws] for c, draws in UNITS]

    def killed_after(count):
        yield from units[:count]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Recorder(path, about).keep_all(killed_after(2))  # nothing tidied up, as by SIGKILL
    with path.with_suffix(".journal").open("a") as journal:
        journal.write(units[2][0].to_json())  # and a line cut short
    with Recorder(path, about) as recorder:
        assert recorder.missing(UNITS) == UNITS[2:]
        recorder.keep_all(units[2:])
    found, read = curve_table.read_rows(path)
    assert found == about
    assert {k: dataclasses.replace(r, seconds=0) for k, r in read.items()} == {
        k: dataclasses.replace(r, seconds=0) for k, r in rows.items()
    }
    assert not path.with_suffix(".journal").exists()


def test_another_table_is_not_gone_on_with(about, rows, tmp_path):
    path = tmp_path / "numbers.parquet"
    curve_table.write_rows(path, about, rows)
    with pytest.raises(SystemExit, match="use --out"):
        Recorder(path, dataclasses.replace(about, seed=1))


def test_configurations_do_not_depend_on_their_number(about):
    few, many = sobol_configurations(about, 5), sobol_configurations(about, 200)
    assert many[:5] == few
    assert len(set(many)) == 200
    space = about.distributions
    for values in many[1:]:
        assert contains(space, dict(zip(about.names, values, strict=True)))


def test_a_share_is_stratified():
    whole, part = load_search_data("numbers"), shared_data("numbers", None, 0.25, 0)
    for label in range(len(whole.class_names)):
        assert (part.labels == label).sum() == round(0.25 * (whole.labels == label).sum())
    assert part.class_names == whole.class_names
