"""Which study goes on, with which settings, and what is refused."""

import argparse
import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution
from recorded import OPENED
from worlds import small_search_data

from mianet.errors import InputError
from tuning.cli import resumption
from tuning.cli.options import tracking_uri
from tuning.cli.resumption import (
    check_not_started,
    check_unchanged,
    existing_log,
    new_log,
    nothing_left,
    resume_command,
    resume_settings,
    resumed_options,
)
from tuning.engine.study import Study
from tuning.events.event import Completed, Ended, Proposed
from tuning.events.log import LOG_FILE, write_cursor
from tuning.spec.space import search_space

DATA = small_search_data()
STUDY = Study(
    name="s",
    space=search_space(),
    fixed={},
    trials=5,
    max_epochs=3,
    patience=2,
    executions=1,
    seed=0,
    sampler="tpe",
    scheduler="asha",
)


HAPPENED = (Proposed(0, {}, "tpe"), Ended(0, "finished", ""))


def options(**changes):
    values = {
        "dataset": "small",
        "data_dir": Path("/data"),
        "study": "s",
        "trials": 5,
        "time_budget": None,
        "sampler": "tpe",
        "range": [("alpha", (1.0, 2.0))],
    }
    return argparse.Namespace(**{**values, **changes})


def started(storage, uri="sqlite:////x.db", **changes):
    with new_log(storage, "s") as log:
        settings = resume_settings(options(**changes), STUDY, DATA, uri)
        about = dataclasses.replace(OPENED.description, space=STUDY.space)
        log.begin(dataclasses.replace(OPENED, description=about, settings=settings))
        for event in HAPPENED:
            log.append(event)


def test_the_settings_of_the_start_come_back_changed_by_what_is_given(tmp_path):
    started(tmp_path)
    with existing_log(tmp_path, "s") as log:
        again = resumed_options(log, tmp_path, {"trials": 9, "resume": "s", "workers": 2})
    assert again.data_dir == Path("/data")
    assert (again.dataset, again.sampler, again.trials, again.workers) == ("small", "tpe", 9, 2)
    assert dict(again.range)["alpha"] == [1.0, 2.0]
    assert again.tracking_uri == "sqlite:////x.db"
    assert again.storage == tmp_path


def test_fewer_trials_than_were_asked_for_are_refused(tmp_path):
    started(tmp_path)
    with existing_log(tmp_path, "s") as log, pytest.raises(InputError, match=r"at least 5.* got 4"):
        resumed_options(log, tmp_path, {"trials": 4})


def test_a_password_is_not_kept_but_asked_for(tmp_path, monkeypatch):
    address = "postgresql://me:secret@host/db"
    started(tmp_path, uri=address)
    assert "secret" not in (tmp_path / "s" / LOG_FILE).read_text()
    with existing_log(tmp_path, "s") as log:
        arguments = resumed_options(log, tmp_path, {})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("host", "other"))
    with pytest.raises(InputError, match=r"of postgresql://me:\*\*\*@host/db is never stored"):
        tracking_uri(arguments)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert tracking_uri(arguments) == address


def test_a_study_of_that_name_is_refused_with_the_line_that_goes_on(tmp_path):
    check_not_started(tmp_path, "s")
    started(tmp_path)
    line = f"python tuning/search.py --resume s --storage {tmp_path}"
    with pytest.raises(InputError, match=line):
        check_not_started(tmp_path, "s")
    assert resume_command(tmp_path, "s") == line


def test_the_default_storage_is_not_part_of_the_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resume_command(tmp_path / "ray_results", "s") == ("python tuning/search.py --resume s")


@pytest.mark.parametrize("left", ["nothing", "an empty log", "half a line"])
def test_a_study_that_was_never_begun_cannot_go_on_and_can_begin(tmp_path, left):
    if left != "nothing":
        (tmp_path / "s").mkdir()
        (tmp_path / "s" / LOG_FILE).write_text("{" if left == "half a line" else "")
    with pytest.raises(InputError, match="s is not in"), existing_log(tmp_path, "s"):
        pass
    check_not_started(tmp_path, "s")


def test_a_start_that_fails_leaves_the_name_free(tmp_path):
    fails = pytest.raises(InputError, match="no server")
    with fails, new_log(tmp_path, "s") as log:
        log.begin(OPENED)
        write_cursor(log.folder, log.end)  # MLflow knows that it has ended
        raise InputError("no server")
    check_not_started(tmp_path, "s")


def test_a_failure_later_keeps_what_happened(tmp_path):
    fails = pytest.raises(KeyboardInterrupt)
    with fails, new_log(tmp_path, "s") as log:
        log.begin(OPENED)
        log.append(HAPPENED[0])
        raise KeyboardInterrupt
    with existing_log(tmp_path, "s") as log:
        assert [event for event, _ in log.read()] == [OPENED, HAPPENED[0]]


def test_other_data_are_an_error_and_other_code_is_a_warning(tmp_path, monkeypatch, capsys):
    started(tmp_path)
    with existing_log(tmp_path, "s") as log:
        check_unchanged(log, DATA, STUDY)
        assert capsys.readouterr().err == ""
        with pytest.raises(InputError, match=r"data it was started with \(000000000000…\)"):
            check_unchanged(log, replace(DATA, digest="f" * 64), STUDY)
        monkeypatch.setattr(resumption, "code_digest", lambda: "other")
        check_unchanged(log, DATA, STUDY)
        assert "warning: the code has changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"alpha": FloatDistribution(1.0, 2.0)}, "alpha"),
        ({"new": FloatDistribution(0.0, 1.0)}, "new"),
        ({"alpha": None}, "alpha"),
    ],
)
def test_another_search_space_is_an_error(tmp_path, changes, names):
    """What the sampler was told would not fit it."""
    started(tmp_path)
    space = {n: d for n, d in {**STUDY.space, **changes}.items() if d}
    with (
        existing_log(tmp_path, "s") as log,
        pytest.raises(InputError, match=f"range for {names}; go"),
    ):
        check_unchanged(log, DATA, replace(STUDY, space=space))


def test_a_complete_study_has_something_left_once_more_is_asked_for(tmp_path):
    started(tmp_path)
    with existing_log(tmp_path, "s") as log:
        assert not nothing_left(log, options())
        log.append(Completed())
        assert nothing_left(log, options())
        assert not nothing_left(log, options(trials=6))
        assert not nothing_left(log, options(time_budget=60.0))
