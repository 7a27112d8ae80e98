"""Credentials in addresses: wherever an address is printed, logged, recorded or passed on."""

import argparse
import itertools
import time

import pytest

from mianet.addresses import without_credentials
from mianet.errors import InputError
from tuning.cli import after_search
from tuning.cli.options import tracking_uri
from tuning.tracking.address import absolute_tracking_uri
from tuning.tracking.store import open_store, reason_of

PASSWORDS = ("hunter2", "hun/ter2", "hun@ter2", "hun]ter2", "[hunter2", "hun?ter2", "hun#ter2")
PLAIN = (
    "postgresql://me:{}@host:5432/db",
    "postgresql+psycopg2://me:{}@host/db?sslmode=require",
    "postgresql+pg8000://me:{}@127.0.0.1/db",
    "http://me:{}@host:5000",
    "https://{}@host/team",
    "https://{}:x-oauth-basic@host/team.git",
)
QUERIES = (
    "http://host:5000/?token={}",
    "postgresql://host/db?user=me&password={}",
    "https://host/a.zip?X-Amz-Signature={}&part=1",
    "postgresql://host/db?sslmode=require&sslpassword={}#here",
)
ADDRESSES = [
    *(form.format(password) for form, password in itertools.product(PLAIN, PASSWORDS)),
    *(form.format("hunter2") for form in QUERIES),
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_credentials_are_hidden(address):
    for text in (address, f"cannot open '{address}': refused", str(InputError(address))):
        shown = without_credentials(text)
        assert not any(part in shown for part in ("hun", "ter2"))
        assert "host" in shown or "127.0.0.1" in shown
        assert without_credentials(shown) == shown


@pytest.mark.parametrize(
    "address",
    [
        "http://host:5000/#/experiments/1/runs/2?workflowType=machine_learning",
        "sqlite:////home/me@lab/my studies/mlflow.db?timeout=5",
        "models:/mianet-apy@champion",
        "postgresql://me@host/db",
        "s3://bucket/folder",
        "mail me@lab: no address",
    ],
)
def test_what_holds_no_credentials_stays(address):
    assert without_credentials(address) == address


@pytest.mark.parametrize("password", PASSWORDS[1:])
@pytest.mark.parametrize("form", PLAIN[:5])
def test_a_password_that_is_not_escaped_is_refused(form, password):
    with pytest.raises(InputError, match=r"must have '.' escaped as %..") as refused:
        absolute_tracking_uri(form.format(password))
    assert "ter2" not in str(refused.value)


@pytest.mark.parametrize("address", ["http://me:hun%2Fter2@{}", "postgresql://me:hun%2Fter2@{}/db"])
def test_an_escaped_password_is_used_and_not_told(address):
    with pytest.raises(InputError, match="must answer") as refused:
        open_store(address.format("127.0.0.1:9"))
    assert "ter2" not in str(refused.value)


def test_a_library_s_error_tells_none():
    assert "hunter2" not in reason_of(OSError("no route to http://me:hunter2@host"))


def test_commands_that_a_search_starts_get_the_address_where_others_cannot_read_it(monkeypatch):
    called = {}

    def run(command, *, env, check):
        called.update(command=command, env=env)
        return argparse.Namespace(returncode=0)

    monkeypatch.setattr(after_search.subprocess, "run", run)
    monkeypatch.setattr(
        after_search.ray, "get_runtime_context", lambda: argparse.Namespace(gcs_address="")
    )
    arguments = argparse.Namespace(dataset="numbers", data_dir=None, storage="ray_results")
    uri = "postgresql://me:hunter2@host/db"
    after_search._report(arguments, "s", uri)
    assert called["env"]["MLFLOW_TRACKING_URI"] == uri
    assert not any("hunter2" in text for text in called["command"])


def test_a_password_on_the_command_line_gives_a_warning(capsys):
    uri = "http://me:hunter2@host"
    assert tracking_uri(argparse.Namespace(tracking_uri=uri)) == uri
    warning = capsys.readouterr().err
    assert "every user of this machine can read the password" in warning
    assert "hunter2" not in warning


@pytest.mark.parametrize("part", ["x", "a:", "?", "?key", "?keykey", "://", "http://", "@"])
def test_a_long_text_takes_no_time(part):
    started = time.monotonic()
    without_credentials(part * (200_000 // len(part)))
    assert time.monotonic() - started < 5
