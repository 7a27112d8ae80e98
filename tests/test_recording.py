"""Recording in a real MLflow: SQLite here, and a real server that is killed in the middle."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import itertools
import json
import math
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import forks
import numpy as np
import pytest
import requests
from classifiers import small_classifier, some_features
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.rest_utils import verify_rest_response
from recorded import (
    FINAL,
    PROTOCOL,
    STUDY,
    Server,
    StudyRecorder,
    curve,
    epoch_metrics,
    final_recording,
    record_trial,
    runs_of,
)

from mianet.config import Hyperparameters
from mianet.errors import InputError
from tuning.analysis.selection import select
from tuning.events import projector
from tuning.events.event import SeedDone
from tuning.events.projector import UnreachableError
from tuning.paper.recording import UnloggedRuns
from tuning.spec import provenance
from tuning.spec.errors import RecordingError
from tuning.spec.records import STATUSES, mean_and_sd, means, protocol_key
from tuning.tracking.address import default_tracking_uri
from tuning.tracking.experiments import experiment_name
from tuning.tracking.model_registry import load_classifier, register_model
from tuning.tracking.reading import read_trials
from tuning.tracking.requests import (
    MLFLOW_STATUS,
    EndRun,
    LogValues,
    Runs,
    StartRun,
    compact,
    is_temporary,
    values,
)
from tuning.tracking.store import open_store, short_requests


@pytest.fixture(scope="module")
def server_here(empty_database: Path, tmp_path_factory: pytest.TempPathFactory):
    server = Server(tmp_path_factory.mktemp("server"), empty_database)
    yield server
    server.kill()


@pytest.fixture
def server(server_here: Server) -> Server:
    """Return the module's server, running."""
    if not server_here.running:
        server_here.start()
    return server_here


# What the stock callback gets wrong


def test_trials_are_nested_and_keep_their_own_values(uri):
    with StudyRecorder(uri, STUDY, device="cpu") as recorder:
        for number in (0, 1):  # side by side, as in a search
            origin = ["paper", "tpe"][number]
            values = {"alpha": [1000.0, 1e-5][number], "orthogonal": True, "strategy": "joint"}
            recorder.trial_started(f"t{number}", number, values, origin=origin)
        for epoch, number in itertools.product((1, 2, 3), (0, 1)):
            recorder.epoch_finished(f"t{number}", epoch, epoch_metrics(0.1 * epoch + number))
        time.sleep(0.01)
        for number in (0, 1):
            recorder.trial_ended(f"t{number}", "finished")

    study = runs_of(uri, "study")["a study"]
    trials = runs_of(uri, "trial")
    assert set(trials) == {"trial 000 (paper)", "trial 001"}
    for number, trial in enumerate(trials[name] for name in sorted(trials)):
        assert trial.data.tags["mlflow.parentRunId"] == study.info.run_id
        assert trial.data.params["alpha"] == ["1000.0", "1e-05"][number]
        assert trial.data.metrics["log10.alpha"] == pytest.approx([3, -5][number])
        assert not [name for name in trial.data.metrics if "_execution_" in name]
        for metric in means(epoch_metrics(0.0)):
            wanted = [(e, epoch_metrics(0.1 * e + number)[metric]) for e in (1, 2, 3)]
            assert curve(uri, trial, metric) == wanted
        assert trial.data.metrics["score"] == pytest.approx(0.3 + number)
        assert trial.data.metrics["best_epoch"] == trial.data.metrics["final_epochs"] == 3
        assert trial.data.metrics["best_val_zsl_accuracy"] == pytest.approx((0.3 + number) / 2)
        assert trial.data.metrics["duration_seconds"] > 0
        assert trial.data.tags["device"] == "cpu"


def test_a_trial_that_is_started_again_goes_on(uri):
    """Tune restarts a trial from its checkpoint under the same name."""
    with StudyRecorder(uri, STUDY) as recorder:
        recorder.trial_started("t", 0, {"alpha": 1.0}, origin="tpe")
        for epoch in (1, 2):
            recorder.epoch_finished("t", epoch, epoch_metrics(0.1 * epoch))
        recorder.trial_started("t", 0, {"alpha": 1.0 + 1e-12}, origin="tpe")
        for epoch in (2, 3):
            recorder.epoch_finished("t", epoch, epoch_metrics(0.1 * epoch + 1e-9))
        recorder.trial_ended("t", "finished")
    (trial,) = runs_of(uri, "trial").values()
    assert [step for step, _ in curve(uri, trial, "val_harmonic_mean")] == [1, 2, 3]
    assert trial.data.params["alpha"] == "1.0"


@pytest.mark.parametrize("status", STATUSES)
def test_each_end_has_its_status(uri, status):
    with StudyRecorder(uri, STUDY) as recorder:
        record_trial(recorder, 0, [0.1], status)
    (trial,) = runs_of(uri, "trial").values()
    assert trial.data.tags["status"] == status
    assert trial.info.status == MLFLOW_STATUS[status]
    assert trial.info.end_time >= trial.info.start_time
    study = runs_of(uri, "study")["a study"]
    assert {s: study.data.metrics[f"trials_{s}"] for s in STATUSES} == {
        s: float(s == status) for s in STATUSES
    }


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("broken"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_no_run_is_left_running_by_an_exception(uri, error, status):
    with pytest.raises(type(error)), StudyRecorder(uri, STUDY) as recorder:  # noqa: PT012
        recorder.trial_started("t", 0, {"alpha": 1.0}, origin="tpe")
        recorder.epoch_finished("t", 1, epoch_metrics(0.25))
        raise error
    runs = runs_of(uri)
    assert runs["a study"].info.status == status
    assert type(error).__name__ in runs["a study"].data.tags["mlflow.note.content"]
    trial = runs["trial 000"]
    assert trial.info.status == "KILLED"
    assert trial.data.tags["status"] == "interrupted"
    assert trial.data.metrics["score"] == 0.25, "what it had reached is kept"


def test_no_run_is_left_running_by_a_process_that_forgets_to_close(uri):
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "import recorded as t\n"
        "recorder = t.StudyRecorder(sys.argv[1], t.STUDY)\n"
        "recorder.trial_started('t', 0, {'alpha': 1.0}, origin='tpe')\n"
        "sys.exit(3)\n"
    )
    done = forks.run_code(script, uri, Path(__file__).parent)
    assert done.returncode == 3, done.stderr
    assert {run.info.status for run in runs_of(uri).values()} == {"KILLED"}


def test_the_given_store_is_used_wherever_the_process_is(empty_database, tmp_path, monkeypatch):
    start, elsewhere = tmp_path / "start", tmp_path / "elsewhere"
    start.mkdir()
    elsewhere.mkdir()
    shutil.copy(empty_database, start / "given.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}/other.db")
    monkeypatch.chdir(start)
    with StudyRecorder("sqlite:///given.db", STUDY) as recorder:
        monkeypatch.chdir(elsewhere)
        record_trial(recorder, 0, [0.1])
    assert len(runs_of(f"sqlite:///{start}/given.db")) == 2
    assert not list(elsewhere.iterdir())
    experiment = MlflowClient(f"sqlite:///{start}/given.db").get_experiment_by_name(
        experiment_name(STUDY.dataset)
    )
    assert experiment.artifact_location == f"{start.as_uri()}/mlartifacts/mianet-synthetic-apy"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_breaks_nothing(uri, value):
    with StudyRecorder(uri, STUDY) as recorder:
        recorder.trial_started("t", 0, {"alpha": 1.0, "beta": value}, origin="tpe")
        recorder.epoch_finished("t", 1, epoch_metrics(0.2))
        recorder.epoch_finished("t", 2, {**epoch_metrics(0.1), "loss": value})
        recorder.epoch_finished("t", 3, epoch_metrics(value))
        recorder.trial_ended("t", "infeasible")
    (trial,) = runs_of(uri, "trial").values()
    assert curve(uri, trial, "val_harmonic_mean") == [(1, 0.2), (2, 0.1)]
    assert trial.data.metrics["score"] == 0.2
    assert f"loss = {value} at epoch 2" in trial.data.tags["nonfinite_metrics"]
    assert trial.info.status == "FINISHED"


# What a study tells


def test_a_study_tells_where_it_comes_from(uri):
    with StudyRecorder(uri, STUDY) as recorder:
        record_trial(recorder, 0, [0.1])
    runs = runs_of(uri)
    for run in runs.values():
        assert "" not in run.data.tags.values()
        (given_input,) = run.inputs.dataset_inputs
        assert given_input.dataset.name == STUDY.dataset
        assert STUDY.data_digest.startswith(given_input.dataset.digest)
        assert json.loads(given_input.dataset.profile) == dict(STUDY.data_shape)
        assert run.data.tags["version.mlflow"] == provenance.package_version("mlflow")
        assert run.data.tags["git_revision"] == provenance.git_revision()[0]
        assert run.data.tags["protocol_key"] == protocol_key(PROTOCOL)
        assert "**aPY (synthetic)**" in run.data.tags["mlflow.note.content"]
    study = runs["a study"]
    experiment = MlflowClient(uri).get_experiment(study.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert study.data.params["protocol.executions"] == "2"
    assert study.data.params["space.alpha"] == "1e-05 … 10000 (log)"
    assert "- seen classes: `20`" in study.data.tags["mlflow.note.content"]


def test_a_study_ends_with_its_best_trial_which_is_the_one_that_selection_takes(uri):
    with StudyRecorder(uri, STUDY) as recorder:
        record_trial(recorder, 0, [0.1, 0.3, 0.3])
        record_trial(recorder, 1, [0.2, 0.5, 0.4], "stopped_early")
        record_trial(recorder, 2, [0.9], "failed")
        recorder.trial_started("t3", 3, {"alpha": 5.0, "beta": 0.1}, origin="tpe")
        half = {k: v for k, v in epoch_metrics(0.8).items() if k != "val_harmonic_mean_execution_1"}
        recorder.epoch_finished("t3", 1, half)  # one execution only: may not be chosen
        recorder.trial_ended("t3", "finished")
        record_trial(recorder, 4, [0.5])
        recorder.close(summary={"proposals": 5}, note="And **more**.")
    study = runs_of(uri, "study")["a study"]
    chosen = select(read_trials(uri, STUDY.dataset))
    assert (chosen.trial.number, chosen.trial.best_epoch, len(chosen.compared)) == (1, 2, 3)
    assert study.data.tags["best_trial"] == "trial 001"
    assert study.data.tags["best.alpha"] == chosen.trial.hyperparameters["alpha"] == "0.1"
    assert study.data.metrics["best_score"] == chosen.trial.score == 0.5
    assert study.data.metrics["best_epoch"] == 2
    assert study.data.metrics["trials"] == 5
    assert study.data.metrics["proposals"] == 5
    note = study.data.tags["mlflow.note.content"]
    assert "50.00% at epoch 2" in note
    assert note.endswith("And **more**.")


def test_the_pages_name_the_model_and_count_in_words(uri):
    settings = {**STUDY.settings, "model": "eszsl"}
    with StudyRecorder(uri, dataclasses.replace(STUDY, settings=settings)) as recorder:
        record_trial(recorder, 0, [0.5])
        recorder.close()
    runs = {**runs_of(uri, "study"), **runs_of(uri, "trial")}
    note = {name: run.data.tags["mlflow.note.content"] for name, run in runs.items()}
    assert "search of ESZSL on **aPY (synthetic)**" in note["a study"]
    assert "Finished after 1 epoch; best " in note["trial 000"]


def test_what_is_read_back_is_what_was_recorded(uri):
    wanted = Hyperparameters(alpha=1 / 3, beta=0.0, orthogonal=False, feature_scaling="l2")
    with StudyRecorder(uri, STUDY) as recorder:
        recorder.trial_started("t", 4, wanted.as_dict(), origin="paper")
        recorder.epoch_finished("t", 1, epoch_metrics(0.4))
        recorder.trial_ended("t", "finished")
        recorder.trial_started("u", 5, wanted.as_dict(), origin="tpe")
    trial, empty = read_trials(uri, STUDY.dataset, study="a study")
    assert Hyperparameters.from_mapping(trial.hyperparameters) == wanted
    assert (trial.study, trial.study_run_id) == ("a study", recorder.study_run_id)
    assert (trial.number, trial.origin, trial.status) == (4, "paper", "finished")
    assert (trial.score, trial.best_epoch) == (0.4, 1)
    assert trial.metrics == {"val_harmonic_mean": 0.4, "val_zsl_accuracy": 0.2}
    assert (trial.executions, trial.planned_executions) == (2, 2)
    assert trial.protocol == PROTOCOL
    assert trial.data_digest == STUDY.data_digest
    assert (empty.status, empty.best_epoch, empty.metrics) == ("interrupted", 0, {})
    assert math.isnan(empty.score)
    assert not empty.is_candidate


def test_reading_what_is_not_there_says_what_there_is(uri, tmp_path):
    missing = tmp_path / "none.db"
    with pytest.raises(InputError, match=r"there is no .*none.db; run a search first"):
        read_trials(f"sqlite:///{missing}", "awa1")
    assert not missing.exists()
    with pytest.raises(InputError, match=r"no experiment mianet-awa1 .it has: none"):
        read_trials(uri, "awa1")
    with StudyRecorder(uri, STUDY):
        pass
    with pytest.raises(InputError, match=r"mianet-awa1 \(it has: mianet-synthetic-apy"):
        read_trials(uri, "awa1")
    with pytest.raises(InputError, match=r"\(a study\), but got 'another'"):
        read_trials(uri, STUDY.dataset, study="another")
    assert read_trials(uri, STUDY.dataset) == []


def test_a_deleted_experiment_is_not_recorded_to(uri):
    with StudyRecorder(uri, STUDY):
        pass
    client = MlflowClient(uri)
    client.delete_experiment(client.get_experiment_by_name("mianet-synthetic-apy").experiment_id)
    with pytest.raises(InputError, match="mlflow experiments restore --experiment-id 1"):
        StudyRecorder(uri, STUDY)


def test_a_final_training_is_nested_and_summed_up(uri):
    with StudyRecorder(uri, STUDY) as study:
        record_trial(study, 0, [0.1])
    described = dataclasses.replace(
        FINAL, study="a study", study_run_id=study.study_run_id, source_run_id="abc"
    )
    values = [0.5, 0.25, 0.75]
    with final_recording(uri, described) as final:
        for value in values:
            final.append(SeedDone({"test_harmonic_mean": value, "test_zsl_accuracy": 0.5}))
    run = runs_of(uri, "final")["final (selected)"]
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == study.study_run_id
    assert curve(uri, run, "test_harmonic_mean") == list(enumerate(values))
    assert run.data.metrics["test_harmonic_mean_mean"] == pytest.approx(np.mean(values))
    assert run.data.metrics["test_harmonic_mean_sd"] == pytest.approx(np.std(values, ddof=1))
    assert run.data.metrics["test_zsl_accuracy_sd"] == 0
    figures = mean_and_sd([{"test_harmonic_mean": v, "test_zsl_accuracy": 0.5} for v in values])
    assert figures.items() <= run.data.metrics.items()
    assert run.data.params.items() >= {"alpha": "3.0", "epochs": "7", "seeds": "0, 1, 2"}.items()
    assert read_trials(uri, STUDY.dataset)[0].number == 0, "a final training is no trial"

    with pytest.raises(KeyboardInterrupt), final_recording(uri, FINAL):
        raise KeyboardInterrupt
    (_, interrupted) = MlflowClient(uri).search_runs(
        [run.info.experiment_id], "tags.kind = 'final'", order_by=["attributes.start_time"]
    )
    assert interrupted.info.status == "KILLED"


# Stores that cannot be used


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers every request with one code and a page."""

    code = 404

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.code)
        self.end_headers()
        self.wfile.write(b"<html>not here</html>")

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def answering(code: int):
    handler = type("Handler", (Answer,), {"code": code})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/wrong"
        server.shutdown()


@contextlib.contextmanager
def silent():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def closed_port(template: str = "http://127.0.0.1:{}"):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take it
        yield template.format(probe.getsockname()[1])


UNUSABLE = {
    "refused": (closed_port, "Connection refused"),
    "unresolvable": (
        lambda: contextlib.nullcontext("http://no-host.invalid:5000"),
        "[Nn]ame|resol",
    ),
    "silent": (silent, "timed out"),
    "401": (lambda: answering(401), "code 401 .*MLFLOW_TRACKING_USERNAME"),
    "403": (lambda: answering(403), "code 403 .*MLFLOW_TRACKING_USERNAME"),
    "404": (lambda: answering(404), "404"),
    "413": (lambda: answering(413), "413"),
    "429": (lambda: answering(429), "429"),
    "500": (lambda: answering(500), "500"),
    "a page": (lambda: answering(200), "not in a valid JSON"),
    "database refused": (
        lambda: closed_port("postgresql+psycopg2://me:secret@127.0.0.1:{}/mlflow"),
        r"me:\*\*\*@127.*(refused|psycopg2)",
    ),
    "no driver": (lambda: contextlib.nullcontext("postgresql+nodriver://host/db"), "nodriver"),
    "unknown scheme": (lambda: contextlib.nullcontext("ftp://host"), "must start with one of http"),
    "folder": (lambda: contextlib.nullcontext("./mlruns"), "sqlite:///path/to/mlflow.db"),
    "in memory": (lambda: contextlib.nullcontext("sqlite://"), "must name a file"),
}


@pytest.mark.parametrize("code", [302, 401, 403, 404, 413, 429, 500, 502, 503, 504])
def test_what_a_proxy_or_an_expired_login_answers_is_sent_again(code):
    answer = requests.Response()
    answer.status_code, answer._content = code, b"<html>Please log in</html>"
    with pytest.raises(MlflowException) as error:
        verify_rest_response(answer, "/api/2.0/mlflow/runs/log-batch")
    assert is_temporary(error.value)


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_store_is_found_at_once(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, message = UNUSABLE[case]
    started = time.monotonic()
    with make() as address, pytest.raises(InputError, match=message) as error:
        StudyRecorder(address, STUDY)
    assert time.monotonic() - started < 10
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database_is_found_and_left_alone(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("dear diary\n" * 100)
    with pytest.raises(InputError, match=r"notes.txt is not .file is not a database"):
        StudyRecorder(f"sqlite:///{text}", STUDY)
    assert text.read_text() == "dear diary\n" * 100
    with pytest.raises(InputError, match="must be in a writable folder"):
        StudyRecorder(f"sqlite:///{text}/mlflow.db", STUDY)
    with pytest.raises(InputError, match="unable to open database file"):
        StudyRecorder(f"sqlite:///{tmp_path}", STUDY)


def test_the_default_store_is_in_the_folder_where_one_started(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert default_tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert default_tracking_uri() == "http://host:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///here.db?timeout=5")
    assert default_tracking_uri() == f"sqlite:///{tmp_path}/here.db?timeout=5"


CREATE_AT_ONCE = """
import os, sys, time, traceback
from tuning.tracking.store import open_store

start = time.time() + 0.3
for _ in range(4):
    if not os.fork():
        time.sleep(max(0, start - time.time()))
        try:
            open_store(sys.argv[1])
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
print([os.wait()[1] for _ in range(4)])
"""


def test_processes_that_create_one_database_at_once_do_not_collide(tmp_path):
    done = forks.run_code(CREATE_AT_ONCE, f"sqlite:///{tmp_path}/new.db")
    assert done.stdout.strip() == "[0, 0, 0, 0]", done.stderr[-2000:]
    assert done.stderr == ""


def test_requests_are_short_while_someone_needs_it_and_then_as_before(monkeypatch):
    names = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")
    monkeypatch.setenv(names[0], "7")
    monkeypatch.delenv(names[1], raising=False)
    first, second = short_requests(5), short_requests(20)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # two threads do not end in the order of a stack
    assert [os.environ[name] for name in names] == ["0", "20"]
    second.__exit__(None, None, None)
    assert [os.environ.get(name) for name in names] == ["7", None]


# Requests


ITEMS = st.one_of(
    st.builds(Metric, st.just("m"), st.floats(0, 1), st.just(0), st.just(0)),
    st.builds(Param, st.sampled_from("pq"), st.text(max_size=2)),
    st.builds(RunTag, st.sampled_from("tu"), st.text(max_size=2)),
)
REQUESTS = st.lists(
    st.one_of(
        st.builds(LogValues, st.sampled_from("ab"), st.lists(ITEMS)),
        st.builds(StartRun, st.sampled_from("ab"), st.text(max_size=3), st.just(0), st.just({})),
        st.builds(EndRun, st.sampled_from("ab"), st.sampled_from(["finished"]), st.just(0)),
    )
)


def replayed(requests: list[Any]) -> dict[str, list[Any]]:
    """Return, run by run, what a store has after each request that is no value."""
    told: dict[str, list[Any]] = defaultdict(list)
    items: dict[str, list[Any]] = defaultdict(list)
    for request in requests:
        if isinstance(request, LogValues):
            items[request.run] += request.items
        else:
            told[request.run].append((request, list(items[request.run])))
    for run, final in items.items():
        if final:
            told[run].append(final)
    return told


@given(REQUESTS)
def test_joining_requests_changes_no_run(requests):
    joined = compact(requests)
    assert replayed(joined) == replayed(requests)
    assert replayed(compact(joined[:3] + joined[3:])) == replayed(requests)
    starts = [request for request in requests if isinstance(request, StartRun)]
    assert [request for request in joined if isinstance(request, StartRun)] == starts


def test_more_than_a_request_takes_is_sent_in_parts(uri):
    store = open_store(uri)
    runs = Runs(store.client, "0")
    runs.put(StartRun("key", "big", 1, {f"tag{n}": "t" * 5000 for n in range(150)}))
    runs.put(*(values("key", n, metrics={f"m{n % 7}": n}, step=n) for n in range(2500)))
    params = {f"p{n}": "v" * 7000 for n in range(230)}
    runs.put(values("key", 1, params=params, tags={f"u{n}": "t" * 9000 for n in range(210)}))
    runs.flush()
    assert runs.refused == []
    run = store.client.get_run(runs.id_of("key"))
    assert len(run.data.params) == 230
    assert len([name for name in run.data.tags if name.startswith("u")]) == 210
    assert sum(len(curve(uri, run, f"m{n}")) for n in range(7)) == 2500


class LosesAnswers:
    """A client whose every first call of a kind arrives while its answer is lost."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self._lost: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            first = repr((name, args, sorted(kwargs.items())))
            if first not in self._lost:
                self._lost.add(first)
                raise ConnectionResetError("the answer was lost")
            return answer

        return call


def test_requests_whose_answer_is_lost_are_not_recorded_twice(uri, monkeypatch):
    monkeypatch.setattr(projector, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(projector, "LONGEST_CLOSING_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(projector, "LONGEST_PAUSE_SECONDS", 0.01)
    recorder = StudyRecorder(uri, STUDY)
    runs = recorder.recording._projection.runs
    runs.client = LosesAnswers(runs.client)  # type: ignore[assignment]
    for number in range(3):
        record_trial(recorder, number, [0.1, 0.2, 0.3])
    recorder.close()
    runs_found = runs_of(uri)
    assert len(runs_found) == 4
    experiments = [run.info.experiment_id for run in runs_found.values()]
    assert not MlflowClient(uri).search_runs(experiments, "", ViewType.DELETED_ONLY)
    assert {run.info.status for run in runs_found.values()} == {"FINISHED"}
    for trial in runs_of(uri, "trial").values():
        for metric in means(epoch_metrics(0.1)):
            assert [step for step, _ in curve(uri, trial, metric)] == [1, 2, 3]
        assert len(trial.inputs.dataset_inputs) == 1


def test_a_run_whose_creation_arrives_late_is_deleted(uri):
    store = open_store(uri)
    runs = Runs(store.client, "0")
    start = StartRun("key", "late", 1, {})

    class Away:
        def create_run(self, *_: Any, **__: Any) -> None:
            raise ConnectionResetError

    runs.client = Away()  # type: ignore[assignment]
    runs.put(start)
    with pytest.raises(UnreachableError):
        runs.flush()
    runs.client = store.client
    runs.flush()  # nothing is found, so it is created again …
    store.client.create_run("0", tags={"run_key": "key"}, run_name="late")  # … and then arrives
    runs.put(EndRun("key", "finished", 2))
    runs.flush()
    (only,) = runs_of(uri).values()
    assert (only.info.run_id, only.info.status) == (runs.id_of("key"), "FINISHED")


def test_runs_without_a_log_are_sent_again_and_what_is_refused_is_said(uri, monkeypatch):
    monkeypatch.setattr(projector, "LONGEST_CLOSING_PAUSE_SECONDS", 0.01)
    runs = UnloggedRuns(uri, "digits", StartRun("a", "paper", 1, {"kind": "paper"}))
    runs.client = LosesAnswers(runs.client)  # type: ignore[assignment]
    runs.put(StartRun("b", "table", 2, {}, parent="a"), values("b", 3, metrics={"x": 0.5}))
    assert runs.waiting, "it is sent with what follows"
    runs.put(EndRun("b", "finished", 5), values("a", 4, metrics={"no/t*good": 1.0}))
    runs.put(EndRun("a", "finished", 6))
    with pytest.raises(RecordingError, match=r"refused a request: .*name"):
        runs.close()
    found = runs_of(uri)
    assert sorted(found) == ["paper", "table"]
    assert (found["paper"].info.status, found["table"].info.status) == ("FAILED", "FINISHED")
    assert curve(uri, found["table"], "x") == [(0, 0.5)]


def test_a_run_of_which_something_was_refused_is_not_shown_as_finished(uri):
    recorder = StudyRecorder(uri, STUDY)
    recorder.trial_started("t", 0, {"alpha": 1.0}, origin="tpe")
    recorder.epoch_finished("t", 1, {**epoch_metrics(0.1), "not/a*name": 1.0})
    recorder.trial_ended("t", "finished")
    with pytest.raises(RecordingError, match=r"refused a part of trial 000 \(.*name"):
        recorder.close()
    runs = runs_of(uri)
    assert runs["trial 000"].info.status == "FAILED"
    assert "name" in runs["trial 000"].data.tags["recording_problem"]
    assert runs["a study"].info.status == "FINISHED"


def test_a_server_that_is_killed_in_the_middle_loses_nothing(server, caplog):
    described = dataclasses.replace(STUDY, name="killed", dataset="killed")
    waits = []
    with StudyRecorder(server.uri, described) as recorder:
        assert recorder.links.command == ""
        assert recorder.links.trials.startswith(f"{server.uri}/#/experiments/")
        for number in range(3):
            values = {"alpha": float(number)}
            recorder.trial_started(f"t{number}", number, values, origin="tpe")
            for epoch in range(1, 31):
                started = time.perf_counter()
                recorder.epoch_finished(f"t{number}", epoch, epoch_metrics(0.01 * epoch, extra=25))
                waits.append(time.perf_counter() - started)
                if (number, epoch) == (1, 10):
                    time.sleep(1.5)  # let a part of it arrive
                    server.kill()
            recorder.trial_ended(f"t{number}", "finished")
        time.sleep(2)
        server.start()
    assert statistics.median(waits) < 0.005
    assert max(waits) < 2, "a dead server must not hold the caller up"
    assert "does not accept" in caplog.text
    assert "accepts records again" in caplog.text

    runs = runs_of(server.uri)
    runs = {name: run for name, run in runs.items() if run.data.tags.get("study") == "killed"}
    assert len(runs) == 4
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for name in sorted(set(runs) - {"killed"}):
        for metric in ("val_harmonic_mean", "loss_24"):
            assert [s for s, _ in curve(server.uri, runs[name], metric)] == list(range(1, 31))
    assert [trial.number for trial in read_trials(server.uri, "killed")] == [0, 1, 2]


# The model


USE_IT = """
import sys, numpy as np, mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
features = np.load(sys.argv[3])
for mode in ("gzsl", "zsl"):
    print(*model.predict(features, params={"mode": mode})["class"])
try:
    model.predict(features, params={"mode": "some"})
except Exception as error:
    print(error)
import mianet.inference.prediction
print(mianet.inference.prediction.__file__)
"""


def test_a_registered_model_loads_where_the_project_is_not_installed(server, tmp_path):
    classifier, features = small_classifier(), some_features()
    np.save(tmp_path / "features.npy", features)
    with final_recording(server.uri, FINAL) as final:
        final.append(SeedDone({"test_harmonic_mean": 0.5}))
    for version in (1, 2):
        registered = register_model(
            server.uri,
            run_id=final.run_id,
            dataset=FINAL.dataset,
            classifier=classifier,
            example=features,
        )
        assert (registered.name, registered.version) == ("mianet-synthetic-apy", version)
    client = MlflowClient(server.uri)
    assert client.get_model_version_by_alias("mianet-synthetic-apy", "champion").version == "2"
    assert [output.model_id for output in client.get_run(final.run_id).outputs.model_outputs]

    files = [path for path in (server.folder / "artifacts").rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix == ".pkl"], "nothing of ours is pickled"
    requirements = next(path for path in files if path.name == "requirements.txt").read_text()
    assert f"torch=={provenance.package_version('torch').partition('+')[0]}" in requirements

    model = "models:/mianet-synthetic-apy@champion"
    done = forks.run_code(USE_IT, server.uri, model, tmp_path / "features.npy")
    assert done.returncode == 0, done.stderr[-3000:]
    both, unseen, refusal, origin = done.stdout.splitlines()[-4:]
    scores = classifier.predict(features)
    assert both == " ".join("abcdef"[best] for best in scores.argmax(axis=1))
    assert unseen == " ".join("ef"[best] for best in scores[:, 4:].argmax(axis=1))
    assert "mode must be one of gzsl, zsl, but got 'some'" in refusal
    assert origin.endswith("/code/mianet/inference/prediction.py")
    assert load_classifier(model, server.uri).class_names == classifier.class_names


PREDICT = """
import sys, numpy as np, mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/mianet-numbers@champion")
features = np.load(sys.argv[2])
for mode in ("gzsl", "zsl"):
    print(*model.predict(features, params={"mode": mode})["class"])
"""


def test_a_trained_classifier_predicts_the_same_wherever_it_is_loaded(
    uri, tmp_path, monkeypatch, capfd
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    classifier, features = small_classifier(), some_features()
    np.save(tmp_path / "features.npy", features)
    with final_recording(uri, dataclasses.replace(FINAL, dataset="numbers")) as final:
        pass
    register_model(
        uri, run_id=final.run_id, dataset="numbers", classifier=classifier, example=features
    )
    assert capfd.readouterr() == ("", ""), "MLflow's chatter is no news to a user"
    assert os.environ["MLFLOW_TRACKING_URI"] == "sqlite:///other.db"
    assert not list(elsewhere.iterdir()), "nothing goes to another store"
    done = forks.run_code(PREDICT, uri, tmp_path / "features.npy")
    assert done.returncode == 0, done.stderr[-3000:]
    scores = classifier.predict(features)
    assert done.stdout.splitlines()[-2:] == [
        " ".join("abcdef"[best] for best in scores.argmax(axis=1)),
        " ".join("ef"[best] for best in scores[:, 4:].argmax(axis=1)),
    ]


def test_a_server_that_stays_away_is_reported_and_nothing_shows_as_finished(server):
    described = dataclasses.replace(STUDY, name="lost", dataset="lost")
    recorder = StudyRecorder(server.uri, described)
    server.kill()
    record_trial(recorder, 0, [0.1])
    started = time.monotonic()
    with pytest.raises(RecordingError, match=r"within 1 s .Connection refused.*lost, trial 000"):
        recorder.close(deadline_seconds=1)
    assert time.monotonic() - started < 5
    kept = runs_of(f"sqlite:///{server.folder}/mlflow.db").values()
    assert [run.info.status for run in kept if run.data.tags.get("study") == "lost"] == ["RUNNING"]


# Where it comes from


def test_the_revision_is_that_of_the_code_and_says_when_files_differ(tmp_path, monkeypatch):
    source = tmp_path / "mianet" / "__init__.py"
    source.parent.mkdir()
    source.write_text("")
    monkeypatch.setattr(provenance.mianet, "__file__", str(source))
    revision = provenance.git_revision.__wrapped__
    assert revision() == ("unknown", False), "no repository"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True, timeout=30)
    assert revision() == ("unknown", False), "a repository that does not have the code"
    subprocess.run([*git, "add", "."], check=True, timeout=30)
    subprocess.run([*git, "commit", "-qm", "a"], check=True, timeout=30)
    commit, dirty = revision()
    assert (len(commit), dirty) == (40, False)
    (tmp_path / "untracked").touch()
    assert revision() == (commit, False)
    source.write_text("changed = 1\n")
    assert revision() == (commit, True)


def test_packages_are_asked_for_their_versions_once_in_a_process(monkeypatch):
    """Each trial is recorded with them, and reading them takes milliseconds."""
    asked = []
    monkeypatch.setattr(provenance.metadata, "version", lambda name: asked.append(name) or "1.0")
    provenance.package_version.cache_clear()
    try:
        assert provenance.provenance_tags() == provenance.provenance_tags()
    finally:
        provenance.package_version.cache_clear()
    assert sorted(asked) == sorted(provenance.PACKAGES)


def test_recording_does_not_need_ray():
    script = "import sys, tuning.tracking.recording; print('ray' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"
