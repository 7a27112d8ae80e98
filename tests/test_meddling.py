"""Recording while somebody deletes, replaces or locks what it writes to, or sets the clock."""

import contextlib
import errno
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import commands
import pytest
from mlflow.tracking import MlflowClient
from recorded import TRIALS, StudyRecorder, check_whole, record_trial, runs_of, search
from test_tracking_faults import (
    Proxy,
    folder_of,
    name,  # noqa: F401
    quick,  # noqa: F401
    server,  # noqa: F401
    server_here,  # noqa: F401
    study,
)

from mianet.errors import InputError
from tuning.events import event
from tuning.events import log as module
from tuning.events.log import CURSOR_FILE, LOG_FILE, open_log
from tuning.spec.errors import RecordingError

pytestmark = pytest.mark.usefixtures("quick")
# ruff: noqa: F811


def recorded_while(uri, name, folder, meddle, mend=lambda: None):
    """Record a study; meddle after its first trial, and mend that before the last."""
    recorder = StudyRecorder(uri, study(name), folder)
    search(recorder, 1)
    time.sleep(1.5)
    meddle()
    search(recorder, TRIALS - 1, pause=0.05)
    mend()
    search(recorder, TRIALS)
    recorder.close()


@pytest.mark.parametrize("how", ["file", "folder", "replaced"])
def test_a_log_that_is_deleted_or_replaced_is_there_again(how, uri, name, tmp_path, caplog):
    folder = folder_of(tmp_path, name)

    def meddle():
        if how == "folder":
            shutil.rmtree(folder)
        else:
            (folder / LOG_FILE).unlink()
        if how == "replaced":
            (folder / LOG_FILE).write_text("something else\n")

    recorded_while(uri, name, folder, meddle)
    assert caplog.text.count("was deleted or replaced while it was in use") == 1
    check_whole(uri, name)
    with open_log(folder) as again:
        assert len(again.state.trials) == TRIALS
        assert again.state.counts == {"finished": TRIALS}
    with StudyRecorder(uri, study(name), folder) as recorder:
        search(recorder)
    check_whole(uri, name)


def test_an_experiment_that_is_deleted_and_restored_gets_everything(uri, name, tmp_path, caplog):
    client = MlflowClient(uri)
    ids = []

    def delete():
        ids.append(client.get_experiment_by_name(f"mianet-{name}").experiment_id)
        client.delete_experiment(ids[0])

    def restore():
        time.sleep(3)
        assert "was deleted; restore it with: mlflow experiments restore" in caplog.text
        client.restore_experiment(ids[0])

    recorded_while(uri, name, folder_of(tmp_path, name), delete, restore)
    check_whole(uri, name)


def test_an_experiment_restored_just_after_a_refusal_gets_everything(
    uri, name, tmp_path, monkeypatch
):
    client, restored = MlflowClient(uri), threading.Event()

    def delete():
        client.delete_experiment(client.get_experiment_by_name(f"mianet-{name}").experiment_id)

    def get_once_restored(self, experiment_id, get=MlflowClient.get_experiment):
        if get(self, experiment_id).lifecycle_stage == "deleted":
            client.restore_experiment(experiment_id)
            restored.set()
        return get(self, experiment_id)

    def wait():
        assert restored.wait(60)

    monkeypatch.setattr(MlflowClient, "get_experiment", get_once_restored)
    recorded_while(uri, name, folder_of(tmp_path, name), delete, wait)
    check_whole(uri, name)


def test_a_run_that_is_deleted_is_told_and_the_others_are_whole(uri, name, tmp_path):
    client = MlflowClient(uri)
    recorder = StudyRecorder(uri, study(name), folder_of(tmp_path, name))
    record_trial(recorder, 0, [0.1])
    recorder.trial_started("t1", 1, {"alpha": 1.0}, origin="tpe")
    time.sleep(2)
    client.delete_run(runs_of(uri)["trial 001"].info.run_id)
    recorder.epoch_finished("t1", 1, {"val_harmonic_mean": 0.5})
    record_trial(recorder, 2, [0.2])
    with pytest.raises(RecordingError, match=r"refused a part of trial 001 .*active"):
        recorder.close()
    found = {run: about.info.status for run, about in runs_of(uri).items()}
    assert found == dict.fromkeys([name, "trial 000", "trial 002"], "FINISHED")


def test_a_database_that_is_deleted_gets_everything_anew(uri, name, tmp_path, empty_database):
    database, folder = Path(uri.removeprefix("sqlite:///")), folder_of(tmp_path, name)
    recorder = StudyRecorder(uri, study(name), folder)
    search(recorder, 1)
    time.sleep(1.5)
    database.unlink()
    search(recorder)
    with pytest.raises(RecordingError, match="must accept what was recorded, but did not"):
        recorder.close(deadline_seconds=2)
    shutil.copy(empty_database, database)
    deliver = ("deliver", "--storage", str(folder.parent))
    refused = commands.run(*deliver, cwd=tmp_path)
    assert refused.returncode == 1
    assert f"or delete {folder / CURSOR_FILE} to record all of it again" in refused.stderr
    (folder / CURSOR_FILE).unlink()
    done = commands.run(*deliver, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = tmp_path / "again.db"  # this process still has the one that was deleted
    again.symlink_to(database)
    check_whole(f"sqlite:///{again}", name)


def test_a_proxy_that_takes_no_large_requests_gets_them_in_parts(server, name, tmp_path):
    with Proxy(server.port) as proxy:
        recorder = StudyRecorder(proxy.uri, study(name), folder_of(tmp_path, name))
        sizes = []

        def fault(handler):
            sizes.append(len(handler.body))
            if len(handler.body) > 4000:
                handler.answer(413, b"<html>Request Entity Too Large</html>")
            return len(handler.body) > 4000

        proxy.fault = fault
        search(recorder)
        recorder.close()
        assert max(sizes) > 4000
        check_whole(proxy.uri, name)
        proxy.shutdown()


def test_what_is_too_large_in_itself_is_told_and_the_rest_is_recorded(server, name, tmp_path):
    with Proxy(server.port) as proxy:
        recorder = StudyRecorder(proxy.uri, study(name), folder_of(tmp_path, name))

        def fault(handler):
            if b"x" * 5000 in handler.body:
                handler.answer(413, b"<html>Request Entity Too Large</html>")
            return b"x" * 5000 in handler.body

        proxy.fault = fault
        search(recorder, TRIALS - 1)
        recorder.trial_started("bad", TRIALS - 1, {"alpha": 1.0}, origin="tpe")
        recorder.trial_ended("bad", "finished", reason="x" * 5000)
        with pytest.raises(RecordingError, match=rf"refused a part of trial 00{TRIALS - 1} .*413"):
            recorder.close()
        ends = {run: about.info.status for run, about in runs_of(proxy.uri, study=name).items()}
        assert ends.pop(f"trial 00{TRIALS - 1}") == "FAILED"
        assert set(ends.values()) == {"FINISHED"}
        proxy.shutdown()


@contextlib.contextmanager
def unchangeable(*paths):
    """Keep files from being changed, for root too."""
    if subprocess.run(["chattr", "+i", *paths], capture_output=True, check=False).returncode:
        pytest.skip("only root can lock files, where the file system allows it")
    yield
    subprocess.run(["chattr", "-i", *paths], check=True)


@pytest.mark.parametrize("what", ["log", "database"])
def test_a_record_that_is_made_read_only_gets_everything_when_it_is_not(
    what, uri, name, tmp_path, caplog
):
    folder = folder_of(tmp_path, name)
    recorder = StudyRecorder(uri, study(name), folder)
    search(recorder, 1)
    time.sleep(1.5)
    path = folder / LOG_FILE if what == "log" else Path(uri.removeprefix("sqlite:///"))
    with unchangeable(path):
        search(recorder, TRIALS - 1, pause=0.1)
        time.sleep(1)
    assert ("cannot be written" if what == "log" else "does not accept") in caplog.text
    time.sleep(1.2)
    search(recorder)
    recorder.close()
    check_whole(uri, name)
    with open_log(folder) as again:
        assert again.state.counts == {"finished": TRIALS}


def test_a_disk_without_inodes_holds_nobody_up(name, tmp_path, empty_database):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "nr_inodes=12", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root where mounts are allowed")
    try:
        shutil.copy(empty_database, disk / "mlflow.db")
        uri, folder = f"sqlite:///{disk}/mlflow.db", disk / name
        recorder = StudyRecorder(uri, study(name), folder)
        search(recorder, 1)
        time.sleep(1.5)
        with contextlib.suppress(OSError):
            for number in range(20):
                (disk / str(number)).touch()
        assert max(search(recorder, TRIALS - 1, pause=0.1)) < 2
        with pytest.raises(InputError, match="No space left"), open_log(disk / "another"):
            pass
        (disk / "0").unlink()
        (disk / "1").unlink()
        search(recorder)
        recorder.close()
        check_whole(uri, name)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_clock_that_is_set_back_makes_no_time_negative(uri, name, tmp_path, monkeypatch):
    hour, now = 3_600_000, [event.now_ms()]
    monkeypatch.setattr(event, "now_ms", lambda: now[0])
    recorder = StudyRecorder(uri, study(name), folder_of(tmp_path, name))
    search(recorder, 1)
    now[0] -= hour
    search(recorder)
    recorder.close()
    now[0] -= hour
    with StudyRecorder(uri, study(name), folder_of(tmp_path, name)) as again:
        search(again)
    check_whole(uri, name)
    for run in runs_of(uri).values():
        assert 0 <= run.data.metrics["duration_seconds"] < 1


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_one_line(code, tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module.fcntl, "flock", flock)
    refused = pytest.raises(InputError, match=r"cannot be locked: .* another --storage")
    with refused, open_log(tmp_path / "s"):
        pass
