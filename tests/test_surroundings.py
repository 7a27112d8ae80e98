"""Where a command is started: the name of the folder, the files in it, the environment."""

import argparse
import io
import os
import resource
import shlex
import shutil
import stat
import sys
import tempfile

import pytest
import ray
import sqlalchemy
from ray.train._internal.storage import get_fs_and_path
from tiny_package import tiny_variables, write_package

from mianet.data.search_data import load_search_data
from mianet.errors import InputError
from tuning.cli import after_search, command_line, search_study
from tuning.cli.options import study_name
from tuning.cli.resumption import resume_command
from tuning.cli.search_options import parse_search_options
from tuning.compute import local_ray
from tuning.tracking.address import absolute_tracking_uri, default_tracking_uri
from tuning.tracking.store import open_store

FOLDERS = [
    *(
        "what?",
        "a?b=c",
        "a#b",
        "100%",
        "%2F",
        "%3f",
        "a b",
        "über",
        "日本",
        "it's",
        '"q"',
        "back\\slash",
    ),
    *("semi;colon", "a&b", "[x]", "@home", "~", "$HOME", "tab\tb", "new\nline", "x" * 250, "-o"),
]


@pytest.mark.parametrize("name", FOLDERS)
def test_an_address_names_the_folder_where_one_started(name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = default_tracking_uri()
    assert sqlalchemy.make_url(uri).database == str(tmp_path / name / "mlflow.db")
    assert absolute_tracking_uri(uri) == uri


@pytest.mark.parametrize("name", ["what?", "%2F #1", "new\nline"])
def test_the_record_is_in_the_folder_where_one_started(name, tmp_path, monkeypatch, empty_database):
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = default_tracking_uri()
    assert absolute_tracking_uri(uri) == uri
    store = open_store(uri, must_exist=True)
    experiment = store.client.create_experiment("e", artifact_location=f"{store.artifact_root}/e")
    run = store.client.create_run(experiment).info.run_id
    store.client.log_text(run, "text", "file.txt")
    assert len(list(folder.glob("mlartifacts/**/file.txt"))) == 1
    assert os.listdir(tmp_path) == [name]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # as the commands that a search starts get it
    again = open_store(default_tracking_uri(), must_exist=True)
    assert again.client.get_run(run).info.experiment_id == experiment


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:///what?/mlflow.db", "must have %3F for a question mark"),
        (f"sqlite:///{os.fsdecode(b'caf%ff/mlflow.db')}".replace("%ff", "\udcff"), "in UTF-8"),
    ],
)
def test_a_path_that_no_address_can_have_is_refused(uri, message):
    with pytest.raises(InputError, match=message):
        absolute_tracking_uri(uri)


@pytest.mark.parametrize(
    ("name", "linked"), [*((name, False) for name in FOLDERS), ("what?", True), ("new\nline", True)]
)
def test_data_and_cache_may_be_in_folders_of_any_name(
    name, linked, tmp_path, monkeypatch, forked_readers
):
    package = write_package(tmp_path / "plain", *tiny_variables())
    expected = load_search_data(str(package)).digest
    folder = tmp_path / name
    if linked:
        (tmp_path / "real").mkdir()
        folder.symlink_to(tmp_path / "real")
    shutil.copytree(package, folder, dirs_exist_ok=True)
    monkeypatch.setenv("MIANET_CACHE_DIR", str(folder / name))
    assert load_search_data(str(folder)).digest == expected
    assert any((folder / name).iterdir())
    assert sorted(os.listdir(tmp_path)) == sorted({"plain", name, *["real"] * linked})


@pytest.mark.parametrize("name", FOLDERS)
def test_a_study_may_be_in_a_storage_of_any_name(name, tmp_path, monkeypatch):
    """The line that goes on with it names it, and Ray Tune finds it."""
    storage = tmp_path / name
    words = shlex.split(resume_command(storage, "s"))
    monkeypatch.setattr(sys, "argv", words[1:])
    options, given = parse_search_options("")
    assert given == {"resume": "s", "storage": storage}
    assert options.storage == storage
    assert get_fs_and_path(str(storage))[1] == str(storage)


WRONG = ("mianet/__init__.py", "tuning/__init__.py", "random.py", "types.py", "ray.py", "torch.py")


@pytest.fixture
def misleading(tmp_path, monkeypatch):
    """A current folder with modules that are named as those that a command imports."""
    for name in WRONG:
        path = tmp_path / "here" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_commands_that_a_search_starts_ignore_the_folder_s_modules(misleading, monkeypatch, capfd):
    here = argparse.Namespace(gcs_address="")
    monkeypatch.setattr(after_search.ray, "get_runtime_context", lambda: here)
    options = argparse.Namespace(
        dataset="numbers", data_dir=None, storage=misleading / "ray_results"
    )
    missing = f"sqlite:///{misleading}/none.db"
    assert after_search._report(options, "s", missing) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: the tracking database must exist")


@pytest.mark.parametrize(
    ("umask", "mode"), [(0, 0o664), (0o002, 0o664), (0o022, 0o644), (0o077, 0o600)]
)
def test_what_a_command_writes_can_be_changed_by_no_stranger(tmp_path, umask, mode):
    def command():
        (tmp_path / "file").touch()
        return 0

    before = os.umask(umask)
    try:
        with pytest.raises(SystemExit):
            command_line.command(command)()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_what_a_terminal_cannot_show_ends_no_command(monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    with pytest.raises(SystemExit) as ended:
        command_line.command(lambda: print("ñandú · 3/4", flush=True) or 0)()
    assert ended.value.code == 0
    assert shown.getvalue() == b"\\xf1and\\xfa \\xb7 3/4\n"


@pytest.fixture
def starting(tmp_path, monkeypatch):
    """Have a local Ray started in a short folder, by whatever stands in for ``ray.init``."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
        monkeypatch.setenv(name, "")  # so that what the start sets is undone
    monkeypatch.setattr(local_ray.ray_constants, "ENABLE_RAY_CLUSTER", True)
    with tempfile.TemporaryDirectory(prefix="g", dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield lambda init: (monkeypatch.setattr(ray, "init", init), local_ray.start())


@pytest.mark.parametrize(
    "error",
    [Exception("timed out"), RuntimeError("no\nGCS"), OSError("no room"), ValueError()],
    ids=repr,
)
def test_a_ray_that_does_not_start_is_one_line_that_names_its_logs(starting, error):
    def init(**_):
        raise error

    with pytest.raises(InputError, match=r"Ray must start .*session_latest/logs") as failed:
        starting(init)
    assert str(failed.value).isprintable()


@pytest.mark.parametrize(
    ("name", "soft", "message"),
    [
        ("RLIMIT_AS", 3_000_000 * 1024, r"8,388,608 for Ray, but is 3,000,000; .* ulimit -v"),
        ("RLIMIT_NOFILE", 64, r"open files must be at least 256 for Ray, but is 64; .* ulimit -n"),
    ],
)
def test_a_limit_that_is_too_low_is_found_at_once(starting, monkeypatch, name, soft, message):
    limits = {getattr(resource, name): (soft, resource.RLIM_INFINITY)}
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda limit: limits.get(limit, unlimited))
    with pytest.raises(InputError, match=message):
        starting(lambda **_: pytest.fail("Ray was started"))


def test_a_port_that_is_meant_for_a_cluster_is_not_taken(starting, monkeypatch):
    monkeypatch.setenv("RAY_GCS_SERVER_PORT", "6379")
    starting(lambda **_: None)
    assert "RAY_GCS_SERVER_PORT" not in os.environ


@pytest.mark.parametrize("folder", ["/proc/mianet", "/dev/null/mianet", "/tmp/" + "x" * 40])  # noqa: S108
def test_ray_s_folder_must_be_usable(starting, monkeypatch, folder):
    monkeypatch.setenv("RAY_TMPDIR", folder)
    with pytest.raises(InputError, match="RAY_TMPDIR"):
        starting(lambda **_: pytest.fail("Ray was started"))


def test_a_token_is_looked_for_without_a_home(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user without a name
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    local_ray.check_token_file()


def test_searches_that_start_in_the_same_second_have_different_names():
    names = {study_name(search_study._new_name("synthetic:apy")) for _ in range(20)}
    assert len(names) > 15
    assert all(name.startswith("synthetic-apy-2") for name in names)
