"""What follows a search, killed (SIGKILL) in the middle: the same command again ends well."""

import contextlib
import os
import shutil
import signal
import sqlite3
import time

import mlflow
import pytest
from commands import SMALL, fork
from processes import workers_of

MODEL = "mianet-numbers"


def die(*_, **__):
    """Stand where the process is to be killed."""
    os.kill(os.getpid(), signal.SIGKILL)


class DeadlyAt:
    """Makes a function the end of the process."""

    def __init__(self, name):
        self.name = name

    def __call__(self):
        pytest.MonkeyPatch().setattr(self.name, die)


def as_by_nohup():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def as_in_a_terminal():
    """Undo what the tests themselves may be run by."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Commands:
    """Runs commands on one study, in one folder."""

    def __init__(self, folder):
        self.folder = folder

    def start(self, name, *options, before=None, **variables):
        return fork(name, *options, cwd=self.folder, before=before, **variables)

    def until(self, condition, process):
        """Wait until something holds while a command runs."""
        deadline = time.monotonic() + 240
        while not condition():
            assert process.exitcode is None, self.told()
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.01)

    def run(self, name, *options, before=None):
        process = self.start(name, *options, before=before)
        process.join(400)
        assert process.exitcode is not None, self.told()
        return process.exitcode

    def kill_when(self, condition, name, *options):
        """Kill a command as soon as something holds."""
        process = self.start(name, *options)
        self.until(condition, process)
        process.kill()
        process.join(30)
        assert process.exitcode == -9

    def told(self):
        return (self.folder / "output").read_text()

    def runs(self, kind):
        """Return the states of all runs of a kind."""
        path = self.folder / "mlflow.db"
        with contextlib.closing(sqlite3.connect(path)) as database:
            query = (
                "select status from runs join tags using (run_uuid)"
                " where key = 'kind' and value = ?"
            )
            return [status for (status,) in database.execute(query, (kind,))]

    def champion(self):
        client = mlflow.MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        with contextlib.suppress(mlflow.MlflowException):
            return int(client.get_model_version_by_alias(MODEL, "champion").version)
        return None


@pytest.mark.timeout(900)
def test_each_command_ends_well_when_it_is_given_again(one_ray, tmp_path):
    commands = Commands(tmp_path)
    shared = ("--dataset", "numbers", "--study", "s")
    assert commands.run("search", *shared, "--trials", "3", "--no-final", *SMALL) == 0

    confirm = ("confirm", *shared, "--draws", "2")
    commands.kill_when(lambda: "confirming" in commands.told(), *confirm)
    assert commands.run(*confirm) == 0, commands.told()
    confirmed = commands.runs("confirmation")
    assert confirmed.count("FINISHED") >= 1
    assert "RUNNING" not in confirmed

    final = ("final", *shared, "--seeds", "1")
    commands.kill_when(lambda: "final training on all" in commands.told(), *final)
    assert commands.champion() is None
    alias = "mlflow.tracking.MlflowClient.set_registered_model_alias"
    assert commands.run(*final, before=DeadlyAt(alias)) == -9
    assert commands.champion() is None
    assert commands.run(*final) == 0, commands.told()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    versions = client.search_model_versions(f"name = '{MODEL}'")
    assert commands.champion() == max(int(version.version) for version in versions)
    assert "RUNNING" not in commands.runs("final")

    report = tmp_path / "ray_results" / "s" / "report.html"
    before = report.read_bytes()  # of the search
    assert commands.run("study_report", *shared, before=DeadlyAt("pathlib.Path.replace")) == -9
    assert report.read_bytes() == before
    assert commands.run("study_report", *shared) == 0, commands.told()
    assert report.read_bytes() != before
    assert report.read_text().rstrip().endswith("</html>")
    assert [path.name for path in report.parent.glob("*report*")] == ["report.html"]


@pytest.mark.timeout(900)
def test_a_search_that_is_hung_up_goes_on_and_under_nohup_is_not(one_ray, tmp_path):
    """Under nohup it is also stopped for a while, as when a laptop's lid is closed."""
    commands = Commands(tmp_path)
    long = ("--max-epochs", "600", "--patience", "600", "--executions", "1", "--scheduler", "none")
    options = (
        "--set",
        "hidden_dim=32",
        "--fresh-draws",
        "0",
        "--no-final",
        "--cpus-per-trial",
        "2",
    )
    options += ("--dataset", "numbers", "--study", "s", "--trials", "1", *long)
    process = commands.start("search", *options, before=as_in_a_terminal)
    commands.until(lambda: workers_of(os.getpid()), process)
    os.kill(process.pid, signal.SIGHUP)
    process.join(30)
    assert process.exitcode == -signal.SIGHUP

    shown = commands.told().count("best AUSUC")
    resumed = ("--resume", "s", "--cpus-per-trial", "1", "--workers", "2")
    process = commands.start("search", *resumed, before=as_by_nohup)
    commands.until(lambda: commands.told().count("best AUSUC") > shown, process)
    os.kill(process.pid, signal.SIGHUP)
    for stopped in (workers_of(os.getpid())[0], process.pid):
        os.kill(stopped, signal.SIGSTOP)
        time.sleep(3)
        os.kill(stopped, signal.SIGCONT)
    process.join(400)
    assert process.exitcode == 0, commands.told()
    assert "1 trials in" in commands.told()
    assert "1 finished" in commands.told()
    assert "retry" not in commands.told()
    assert commands.runs("trial") == ["FINISHED"]


@pytest.mark.timeout(900)
def test_a_study_whose_folder_and_store_are_deleted_while_it_is_searched_ends_well(
    one_ray, tmp_path
):
    commands = Commands(tmp_path)
    options = ("--dataset", "numbers", "--study", "s", "--trials", "2", "--no-final", *SMALL)
    process = commands.start("search", *options, MIANET_CACHE_DIR=str(tmp_path / "cache"))
    commands.until(lambda: workers_of(os.getpid()), process)
    shutil.rmtree(tmp_path / "ray_results" / "s")
    shutil.rmtree(tmp_path / "cache")
    process.join(400)
    assert process.exitcode == 0, commands.told()
    assert commands.runs("trial") == ["FINISHED", "FINISHED"]
    nothing = "study s is complete; nothing is left to do"
    assert commands.run("search", "--resume", "s") == 0
    assert commands.told().splitlines()[-1] == nothing
