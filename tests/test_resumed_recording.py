"""A record that is gone on with: processes killed for real, and one database of two searches."""

from __future__ import annotations

import atexit
import dataclasses
import json
import math
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import forks
import pytest
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient
from recorded import (
    FINAL,
    STUDY,
    StudyRecorder,
    curve,
    epoch_metrics,
    record_trial,
    runs_of,
    statuses,
    values_twice,
)

from mianet.errors import InputError
from tuning.events import event as event_module
from tuning.events.event import Closed, SeedDone
from tuning.events.log import CURSOR_FILE, LOG_FILE, LogBusyError, count_waiting, open_log
from tuning.spec.records import means
from tuning.tracking.backlog import deliver_waiting
from tuning.tracking.reading import read_trials
from tuning.tracking.recording import Recording, recorded_final

SCORES = [0.1, 0.4, 0.3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "storage" / "a study"


def deliver_all(storage: Path, uri: str) -> list[str]:
    return [str(delivered) for delivered in deliver_waiting(storage, lambda _: uri)]


def test_a_study_goes_on_in_its_runs(uri, folder):
    first = StudyRecorder(uri, STUDY, folder)
    record_trial(first, 0, SCORES)
    first.trial_started("t1", 1, {"alpha": 3.0}, origin="tpe")
    first.epoch_finished("t1", 1, epoch_metrics(0.5))
    first.abandon()
    assert statuses(uri) == {"a study": "RUNNING", "trial 000": "FINISHED", "trial 001": "RUNNING"}

    changed = dataclasses.replace(STUDY, settings={**STUDY.settings, "workers": 3})
    with StudyRecorder(uri, changed, folder) as second:
        assert second.study_run_id == first.study_run_id
        second.trial_started("other name", 1, {"alpha": 3.0}, origin="tpe")
        second.epoch_finished("other name", 2, epoch_metrics(0.2))  # the later epoch only
        second.trial_ended("other name", "finished")
        record_trial(second, 2, SCORES)
    assert set(statuses(uri).values()) == {"FINISHED"}
    runs = runs_of(uri)
    assert runs["a study"].data.metrics["trials_finished"] == 3
    assert runs["a study"].data.tags["best_trial"] == "trial 001"
    trial = runs["trial 001"]
    assert curve(uri, trial, "val_harmonic_mean") == [(1, 0.5), (2, 0.2)]
    assert (trial.data.metrics["score"], trial.data.metrics["best_epoch"]) == (0.5, 1)
    assert trial.data.metrics["epochs"] == 2
    assert trial.data.tags["mlflow.parentRunId"] == first.study_run_id
    assert [t.number for t in read_trials(uri, STUDY.dataset)] == [0, 1, 2]


def test_what_is_told_again_is_not_recorded_again(uri, folder):
    for _ in range(3):
        with StudyRecorder(uri, STUDY, folder) as recorder:
            for number, status in enumerate(("finished", "stopped_early", "infeasible", "failed")):
                record_trial(recorder, number, SCORES, status)
            recorder.trial_started("cut", 4, {"alpha": 1.0}, origin="tpe")
            for epoch, score in enumerate(SCORES, start=1):
                recorder.epoch_finished("cut", epoch, epoch_metrics(score))
    runs = runs_of(uri)
    assert len(runs) == 6
    assert values_twice(uri) == []
    assert {run.data.tags["status"] for run in runs.values()} == {
        *("finished", "stopped_early", "infeasible", "failed", "interrupted")
    }
    for name in (f"trial {number:03d}" for number in range(5)):
        assert curve(uri, runs[name], "val_harmonic_mean") == list(enumerate(SCORES, start=1))
        assert curve(uri, runs[name], "score") == [(0, 0.4)]
        assert len(runs[name].inputs.dataset_inputs) == 1


def test_an_interrupted_trial_runs_again_and_one_that_ended_does_not(uri, folder):
    with StudyRecorder(uri, STUDY, folder) as first:
        record_trial(first, 0, [0.1])
        for number in (1, 2):
            first.trial_started(f"t{number}", number, {"alpha": 1.0}, origin="tpe")
            first.epoch_finished(f"t{number}", 1, epoch_metrics(0.3))
    assert statuses(uri)["trial 002"] == "KILLED"
    second = StudyRecorder(uri, STUDY, folder)
    second.trial_started("x1", 1, {"alpha": 1.0}, origin="tpe")
    second.epoch_finished("x1", 2, epoch_metrics(0.6))
    second.abandon()
    assert statuses(uri) == {
        "a study": "RUNNING",
        "trial 000": "FINISHED",
        "trial 001": "RUNNING",
        "trial 002": "RUNNING",
    }
    StudyRecorder(uri, STUDY, folder).close()
    tags = {name: run.data.tags["status"] for name, run in runs_of(uri).items()}
    assert tags == {
        "a study": "finished",
        "trial 000": "finished",
        "trial 001": "interrupted",
        "trial 002": "interrupted",
    }
    assert runs_of(uri)["trial 001"].data.metrics["score"] == 0.6
    assert curve(uri, runs_of(uri)["trial 002"], "score") == [(0, 0.3)], "it did nothing since"


def test_time_between_two_processes_is_not_counted(uri, folder, monkeypatch):
    clock = [1_000_000]
    monkeypatch.setattr(event_module, "now_ms", lambda: clock[0])
    first = StudyRecorder(uri, STUDY, folder)
    first.trial_started("t", 0, {"alpha": 1.0}, origin="tpe")
    clock[0] += 2_000
    first.epoch_finished("t", 1, epoch_metrics(0.1))
    first.abandon()
    clock[0] += 3_600_000
    with StudyRecorder(uri, STUDY, folder) as second:
        second.trial_started("t", 0, {"alpha": 1.0}, origin="tpe")
        clock[0] += 3_000
        second.trial_ended("t", "finished")
    runs = runs_of(uri)
    assert runs["trial 000"].data.metrics["duration_seconds"] == 5
    assert runs["a study"].data.metrics["duration_seconds"] == 5


def test_figures_that_were_none_are_still_named_after_going_on(uri, folder):
    first = StudyRecorder(uri, STUDY, folder)
    first.trial_started("t", 0, {"alpha": 1.0}, origin="tpe")
    first.epoch_finished("t", 1, {**epoch_metrics(0.1), "loss": math.nan})
    first.abandon()
    with StudyRecorder(uri, STUDY, folder) as second:
        second.trial_started("t", 0, {"alpha": 1.0}, origin="tpe")
        second.epoch_finished("t", 2, {**epoch_metrics(0.2), "loss": math.inf})
        second.trial_ended("t", "finished")
    tag = runs_of(uri)["trial 000"].data.tags["nonfinite_metrics"]
    assert tag == "loss = nan at epoch 1; loss = inf at epoch 2"


def test_a_study_is_gone_on_with_only_where_it_fits(uri, folder, empty_database, tmp_path):
    recorder = StudyRecorder(uri, STUDY, folder)
    with pytest.raises(LogBusyError):
        StudyRecorder(uri, STUDY, folder)
    recorder.close()
    shutil.copy(empty_database, tmp_path / "other.db")
    before = (folder / LOG_FILE).read_bytes()
    with pytest.raises(InputError, match=r"other.db does not have it; give the --tracking-uri"):
        StudyRecorder(f"sqlite:///{tmp_path}/other.db", STUDY, folder)
    assert (folder / LOG_FILE).read_bytes() == before
    StudyRecorder(uri, STUDY, folder).close()
    with StudyRecorder(uri, STUDY, folder.parent / "new") as new:
        assert new.study_run_id != recorder.study_run_id, "nothing to go on with is a new study"


def test_a_study_that_is_refused_leaves_no_log(uri, folder):
    with StudyRecorder(uri, STUDY):
        pass
    client = MlflowClient(uri)
    client.delete_experiment(client.get_experiment_by_name("mianet-synthetic-apy").experiment_id)
    with pytest.raises(InputError, match="restore"):
        StudyRecorder(uri, STUDY, folder)
    assert deliver_all(folder.parent, uri) == []
    assert not (folder / LOG_FILE).exists()


def fill_the_disk(log, monkeypatch):
    """Have the disk take nothing more for a log."""
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(log, "_write", lambda: log._note(full) if log._lines else None)


def test_what_a_full_disk_kept_out_of_the_log_is_sent_and_done_again(
    uri, folder, monkeypatch, caplog
):
    first = StudyRecorder(uri, STUDY, folder)
    record_trial(first, 0, SCORES)
    first.trial_started("t1", 1, {"alpha": 1.0}, origin="tpe")
    first.epoch_finished("t1", 1, epoch_metrics(0.5))
    first.log.sync()
    fill_the_disk(first.log, monkeypatch)
    first.epoch_finished("t1", 2, epoch_metrics(0.6))
    first.trial_ended("t1", "finished")
    record_trial(first, 2, SCORES)
    first.close()
    assert "events could not be saved" in caplog.text
    assert set(statuses(uri).values()) == {"FINISHED"}, "better sent than lost"
    before = {name: run.info.run_id for name, run in runs_of(uri).items()}
    assert len(before) == 4

    second = StudyRecorder(uri, STUDY, folder)
    assert sorted(second.log.state.trials) == [0, 1]
    second.trial_started("t1", 1, {"alpha": 1.0}, origin="tpe")
    for epoch, score in ((2, 0.6), (3, 0.1)):
        second.epoch_finished("t1", epoch, epoch_metrics(score))
    second.trial_ended("t1", "finished")
    second.trial_started("t2", 2, {"alpha": 77.0}, origin="tpe")
    second.epoch_finished("t2", 1, epoch_metrics(0.2))
    second.trial_ended("t2", "finished")
    second.close()
    runs = runs_of(uri)
    assert {run for run, *_ in values_twice(uri)} <= {"a study"}, "its own figures, at both ends"
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert [runs[name].info.run_id == before[name] for name in sorted(before)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert curve(uri, runs["trial 001"], "val_harmonic_mean") == [(1, 0.5), (2, 0.6), (3, 0.1)]
    assert runs["trial 002"].data.params["alpha"] == "77.0"
    assert "beyond_the_log" not in runs["a study"].data.tags


# Killed in the middle


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from recorded import STUDY, StudyRecorder, epoch_metrics

uri, folder, notes = sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
retell, chance = sys.argv[5] == "all again", random.Random(int(sys.argv[6]))
KILLS, TRIALS, EPOCHS = 6, 5, 6

def search():
    done = notes.read_text().splitlines() if notes.exists() else []
    with StudyRecorder(uri, STUDY, folder) as recorder, notes.open("a") as told:
        def tell(event, act, *args, **more):
            if retell or event not in done:
                act(*args, **more)
            if event not in done:
                print(event, file=told, flush=True)
                time.sleep(0.02)

        for number in range(TRIALS):
            name = f"t{number}"
            if retell or f"{name} end" not in done:
                recorder.trial_started(name, number, {"alpha": 0.5 + number}, origin="tpe")
                for epoch in range(1, EPOCHS + 1):
                    score = epoch_metrics(0.01 * epoch * (number + 1), 20)
                    tell(f"{name} {epoch}", recorder.epoch_finished, name, epoch, score)
                tell(f"{name} end", recorder.trial_ended, name, "finished")

lives = 0
for life in range(KILLS + 1):
    child = os.fork()
    if not child:
        search()
        os._exit(0)
    if life < KILLS:
        before = len(notes.read_text()) if notes.exists() else 0
        deadline = time.monotonic() + 60  # let it come to work, then kill it at a random moment
        while time.monotonic() < deadline and os.waitpid(child, os.WNOHANG) == (0, 0):
            if notes.exists() and len(notes.read_text()) > before:
                time.sleep(chance.uniform(0, 0.15))
                os.kill(child, signal.SIGKILL)
                break
            time.sleep(0.005)
        else:
            print("ended", life)
            continue
    lives += 1
    print(os.waitpid(child, 0)[1])
"""


@pytest.mark.parametrize("retold", ["all again", "the rest"])
def test_a_process_killed_again_and_again_loses_and_doubles_nothing(uri, folder, tmp_path, retold):
    arguments = [Path(__file__).parent, uri, folder, tmp_path / "notes", retold, 1]
    done = forks.run_code(KILLED, *arguments, timeout=280)
    assert done.stdout.split() == ["9"] * 6 + ["0"], done.stdout + done.stderr[-3000:]
    assert statuses(uri) == {
        "a study": "FINISHED",
        **{f"trial {number:03d}": "FINISHED" for number in range(5)},
    }
    assert values_twice(uri) == []
    runs = runs_of(uri)
    for number in range(5):
        run = runs[f"trial {number:03d}"]
        for name in means(epoch_metrics(0, 20)):
            wanted = [(e, epoch_metrics(0.01 * e * (number + 1), 20)[name]) for e in range(1, 7)]
            assert curve(uri, run, name) == wanted
        assert run.data.metrics["best_epoch"] == 6
        assert run.data.params == {"model": "mianet", "alpha": str(0.5 + number)}
        assert len(run.inputs.dataset_inputs) == 1
    assert count_waiting(folder) == 0


# Delivered later, and again


def test_a_log_that_is_delivered_again_changes_nothing(uri, folder):
    with StudyRecorder(uri, STUDY, folder) as recorder:
        for number in range(3):
            record_trial(recorder, number, SCORES)
    with StudyRecorder(uri, STUDY, folder) as recorder:
        recorder.trial_started("t3", 3, {"alpha": 0.1}, origin="tpe")
        recorder.epoch_finished("t3", 1, epoch_metrics(0.9))
    before = {name: run.to_dictionary() for name, run in runs_of(uri).items()}
    for _ in range(2):
        (folder / CURSOR_FILE).unlink()
        (line,) = deliver_all(folder.parent, uri)
        assert "events delivered to sqlite" in line
        assert {name: run.to_dictionary() for name, run in runs_of(uri).items()} == before
        assert values_twice(uri) == []
    assert deliver_all(folder.parent, uri) == []


def test_a_final_training_is_delivered_later_ended_if_it_was_killed_and_leaves_nothing(
    uri, tmp_path
):
    described = dataclasses.replace(FINAL, study="a study")
    storage = tmp_path / "storage"
    with recorded_final(uri, described, storage) as final:
        final.append(SeedDone({"test_harmonic_mean": 0.5}))
    assert not storage.exists()
    with ExitStack() as stack:
        paper = dataclasses.replace(described, role="paper")
        log = stack.enter_context(open_log(storage / "a study" / "final-7"))
        killed = Recording(uri, log, paper)
        killed.append(SeedDone({"test_harmonic_mean": 0.25}))
        assert deliver_all(storage, uri) == [], "it is still at work"
        atexit.unregister(killed._close_at_exit)
        killed._projector.close(60)
    assert statuses(uri)["final (paper)"] == "RUNNING"
    (line,) = deliver_all(storage, uri)
    assert line.startswith("final (paper): 1 events delivered")
    run = runs_of(uri)["final (paper)"]
    assert (run.info.status, run.data.tags["status"]) == ("KILLED", "interrupted")
    assert curve(uri, run, "test_harmonic_mean") == [(0, 0.25)]
    assert not storage.exists()


def test_a_log_is_never_delivered_to_a_store_without_its_beginning(
    uri, folder, empty_database, tmp_path
):
    StudyRecorder(uri, STUDY, folder).abandon()
    with open_log(folder) as log:
        log.append(Closed("interrupted"))
    shutil.copy(empty_database, tmp_path / "other.db")
    other = f"sqlite:///{tmp_path}/other.db"
    StudyRecorder(other, STUDY).close()
    (line,) = deliver_all(folder.parent, other)
    assert "must be delivered to the store that has its first part" in line
    assert count_waiting(folder) == 1
    (line,) = deliver_all(folder.parent, uri)
    assert "1 events delivered" in line
    assert statuses(uri) == {"a study": "KILLED"}


def test_what_is_needed_to_deliver_is_in_the_log_and_no_password(uri, folder):
    with StudyRecorder(uri, STUDY, folder):
        pass
    opened = json.loads((folder / LOG_FILE).read_text().splitlines()[0])
    assert opened["tracking_uri"] == uri
    assert opened["experiment"] == "mianet-synthetic-apy"


# Two searches, one database


TOGETHER = """
import dataclasses, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from recorded import STUDY, StudyRecorder, record_trial

name, trials = sys.argv[4], int(sys.argv[5])
time.sleep(max(0, float(sys.argv[6]) - time.time()))
study = dataclasses.replace(STUDY, name=name, dataset=name)
with StudyRecorder(sys.argv[2], study, Path(sys.argv[3]) / name) as recorder:
    for number in range(trials):
        record_trial(recorder, number, [0.1, 0.3, 0.2])
        time.sleep(0.01)
    recorder.close(deadline_seconds=500)
"""


def record_together(uri: str, storage: Path, trials: int) -> None:
    """Have two processes record at once into one database that neither finds there."""
    forks.server(*forks.RECORDING)
    start = time.time() + 2
    with ThreadPoolExecutor() as pool:
        processes = [
            pool.submit(
                forks.run_code,
                *(TOGETHER, Path(__file__).parent, uri, storage, name, trials, start),
                timeout=550,
            )
            for name in ("one", "two")
        ]
    outputs = [(p.returncode, p.stdout, p.stderr) for p in (f.result() for f in processes)]
    assert outputs == [(0, "", "")] * 2, "no word of a lock reaches the user"
    for name in ("one", "two"):
        recorded = read_trials(uri, name)
        assert [trial.number for trial in recorded] == list(range(trials))
        assert {(trial.status, trial.score) for trial in recorded} == {("finished", 0.3)}
    assert values_twice(uri) == []
    client = MlflowClient(uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    assert not client.search_runs(experiments, "", ViewType.DELETED_ONLY)
    running = client.search_runs(experiments, "attributes.status = 'RUNNING'")
    assert running == []


@pytest.mark.timeout(600)
def test_two_searches_record_into_one_new_database_at_once(tmp_path):
    record_together(f"sqlite:///{tmp_path}/new.db", tmp_path / "storage", 20)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_long_searches_record_into_one_new_database_at_once(tmp_path):
    record_together(f"sqlite:///{tmp_path}/new.db", tmp_path / "storage", 300)
