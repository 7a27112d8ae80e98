"""The Optuna file of a study: what Optuna reads from it is what happened, once."""

import dataclasses
import random

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from recorded import STUDY, epoch_metrics

from tuning.events.event import Closed, Ended, EpochDone, Opened, Proposed
from tuning.events.log import LOG_FILE, open_log
from tuning.events.projector import Projector
from tuning.spec.space import search_space
from tuning.tracking.optuna_projection import OPTUNA_FILE, OptunaProjection

WIDE = {"alpha": (1e-5, 1e4), "learning_rate": (1e-5, 1.0)}
SPACE = search_space(("alpha", "learning_rate", "latent_activation"), WIDE)
DESCRIPTION = dataclasses.replace(STUDY, space=SPACE)
PATIENCE = 2
ENDS = ("finished", "stopped_early", "stopped_early", "infeasible", "failed", None)
CURVES = ([0.1, 0.3, 0.2], [0.4, 0.1, 0.1], [0.2, 0.25], [0.1], [], [0.05])
STATES = ("COMPLETE", "COMPLETE", "PRUNED", "FAIL", "FAIL", "RUNNING")


def events():
    """Return what happened in a study of six trials, two at once; each ends in another way."""
    told, chance = [], random.Random(1)
    for number, (curve, status) in enumerate(zip(CURVES, ENDS, strict=True)):
        values = {
            "alpha": 10.0**number / 100,
            "learning_rate": chance.uniform(1e-5, 1e-2),
            "latent_activation": chance.choice(("relu", "linear")),
        }
        trial = [Proposed(number, values, "paper" if number == 0 else "tpe")]
        for epoch, score in enumerate(curve, 1):
            best = max(curve[:epoch])
            at = curve.index(best) + 1
            trial.append(EpochDone(number, epoch, best, at, epoch_metrics(score, 1)))
        trial += [Ended(number, status, "why")] if status else []
        told.insert(number, trial)
    first, second = told[0], told[1]
    return [first[0], second[0], *first[1:], *second[1:], *(e for t in told[2:] for e in t)]


def write(folder, happened, run_of="run {}".format, *, kill=False):
    """Search until all of it has happened, then end, or be killed."""
    with open_log(folder) as log:
        known = sum(not isinstance(event, Opened | Closed) for event, _ in log.read())
        log.begin(Opened(key="k", description=DESCRIPTION))
        file = OptunaProjection(log, patience=PATIENCE, run_id="the study's", run_of=run_of)
        with Projector(log, file):
            for event in happened[known:]:
                log.append(event)
            if not kill:
                log.append(Closed("finished"))


def read(folder):
    storage = JournalStorage(JournalFileBackend(str(folder / OPTUNA_FILE)))
    (name,) = optuna.get_all_study_names(storage)
    assert name == DESCRIPTION.name
    return optuna.load_study(study_name=name, storage=storage)


def seen(study):
    return [
        (t.number, t.state.name, t.params, t.values, t.intermediate_values, t.user_attrs)
        for t in study.get_trials()
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("optuna")
    write(folder, events())
    return folder


def test_optuna_reads_each_trial_as_it_was(whole):
    study = read(whole)
    assert tuple(t.state.name for t in study.get_trials()) == STATES
    proposed = [e for e in events() if isinstance(e, Proposed)]
    for trial, curve, status, one in zip(study.get_trials(), CURVES, ENDS, proposed, strict=True):
        assert trial.params == one.configuration
        assert trial.distributions == SPACE
        assert trial.intermediate_values == dict(enumerate(curve, 1))
        assert trial.user_attrs["status"] == (status or "interrupted")
        assert trial.user_attrs["origin"] == one.origin
        assert trial.user_attrs.get("mlflow_run_id") == (f"run {trial.number}" if status else None)


def test_values_and_figures_have_mlflows_names(whole):
    study = read(whole)
    assert study.metric_names == ["best_val_harmonic_mean"]
    best = study.best_trial
    assert (best.number, best.value) == (1, 0.4)
    figures = {
        "score": 0.4,
        "best_epoch": 1,
        "epochs": 3,
        "best_val_harmonic_mean": 0.4,
        "best_val_zsl_accuracy": 0.2,
    }
    assert {name: best.user_attrs[name] for name in figures} == pytest.approx(figures)
    assert study.user_attrs["mlflow_run_id"] == "the study's"
    assert study.user_attrs["protocol.executions"] == 2
    assert study.user_attrs["space.alpha"] == "1e-05 … 10000 (log)"


def test_a_study_that_goes_on_anywhere_has_everything_once(whole, tmp_path):
    wanted, happened = seen(read(whole)), events()
    for place in range(1, len(happened), 7):
        folder = tmp_path / str(place)
        folder.mkdir()
        write(folder, happened[:place], kill=place % 2)
        write(folder, happened)
        assert seen(read(folder)) == wanted, place


def test_a_deleted_file_is_made_anew_from_the_log(whole, tmp_path):
    (tmp_path / LOG_FILE).write_bytes((whole / LOG_FILE).read_bytes())
    write(tmp_path, events())
    assert seen(read(tmp_path)) == seen(read(whole))


def test_what_the_file_has_is_not_written_again(whole, tmp_path):
    for name in (LOG_FILE, OPTUNA_FILE):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    before = (tmp_path / OPTUNA_FILE).read_bytes().count(b"\n")
    write(tmp_path, events())
    added = (tmp_path / OPTUNA_FILE).read_bytes().splitlines()[before:]
    written = [line for line in added if b"event_log_bytes" not in line]
    assert len(written) <= 4, "the trial that goes on and is interrupted"


def test_a_file_that_a_crash_cut_anywhere_is_made_whole(whole, tmp_path):
    content = (whole / OPTUNA_FILE).read_bytes()
    for place in range(1, len(content), len(content) // 7):
        (tmp_path / OPTUNA_FILE).write_bytes(content[:place])
        write(tmp_path, events())
        assert seen(read(tmp_path)) == seen(read(whole)), place


@pytest.mark.parametrize("damage", ["not JSON", "another's", "gone"])
def test_a_damaged_file_is_made_anew(whole, tmp_path, damage):
    content = (whole / OPTUNA_FILE).read_bytes().splitlines(keepends=True)
    content[3] = {"not JSON": b"no\n", "another's": b"{}\n", "gone": b""}[damage]
    if damage == "gone":
        content = []
    (tmp_path / OPTUNA_FILE).write_bytes(b"".join(content))
    write(tmp_path, events())
    assert seen(read(tmp_path)) == seen(read(whole))


def test_a_lock_that_a_killed_process_left_holds_nobody_up_for_long(tmp_path):
    (tmp_path / f"{OPTUNA_FILE}.lock").symlink_to(OPTUNA_FILE)
    write(tmp_path, events()[:3])
    assert len(read(tmp_path).get_trials()) == 2


def test_a_file_that_cannot_be_written_is_said_once_and_stops_nothing(tmp_path, caplog):
    (tmp_path / OPTUNA_FILE).mkdir()
    write(tmp_path, events())
    (record,) = [r for r in caplog.records if r.levelname == "WARNING"]
    assert "is no longer updated" in record.getMessage()


def test_a_run_that_is_created_late_is_waited_for(tmp_path):
    asked = []

    def run_of(number):
        asked.append(number)
        return f"run {number}" if asked.count(number) > 2 else ""

    write(tmp_path, events(), run_of)
    assert read(tmp_path).get_trials()[0].user_attrs["mlflow_run_id"] == "run 0"
