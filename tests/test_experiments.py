"""The view of a study that MLflow's page opens with, as it is saved and in a real browser."""

import json
import shutil
import subprocess

import pytest
from mlflow.tracking import MlflowClient
from recorded import STUDY, Server, StudyRecorder, record_trial

from tuning.tracking.experiments import VIEW_TAG

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


def test_a_study_has_a_view_of_its_own_and_two_addresses_that_open_it(uri):
    with StudyRecorder(uri, STUDY) as recorder:
        pass
    links = recorder.links
    assert links.command.startswith("mlflow ui --backend-store-uri ")
    assert len(links.trials) < 100, "it fits a line"
    assert links.comparison == f"{links.trials}&compareRunsMode=CHART"
    (experiment,) = MlflowClient(uri).search_experiments(filter_string="name LIKE 'mianet-%'")
    assert f"/experiments/{experiment.experiment_id}/runs" in links.trials
    (tag,) = (tag for tag in experiment.tags if tag.startswith(VIEW_TAG))
    assert links.trials.endswith(f"viewStateShareKey={tag.removeprefix(VIEW_TAG)}")
    view = json.loads(experiment.tags[tag])
    state = json.loads(view["state"])
    assert view["name"] == STUDY.name
    assert state["searchFilter"] == "tags.study = 'a study' AND tags.kind = 'trial'"
    assert state["selectedColumns"][:3] == ["metrics.`score`", "params.`alpha`", "params.`beta`"]
    first, *_ = state["compareRunCharts"]
    assert first["selectedMetrics"] == ["log10.alpha", "log10.beta", "score"]


@pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
@pytest.mark.timeout(180)
def test_mlflows_page_opens_as_the_view_says(empty_database, tmp_path):
    server = Server(tmp_path, empty_database)
    server.start()
    try:
        with StudyRecorder(server.uri, STUDY) as recorder:
            for number, score in enumerate((0.2, 0.4, 0.3)):
                record_trial(recorder, number, [score / 2, score])
        table = _page(recorder.links.trials, tmp_path / "table")
        charts = _page(recorder.links.comparison, tmp_path / "charts")
    finally:
        server.kill()
    for words in ("trial 002", "Sort: score", 'col-id="metrics.`score`"', "params.`alpha`"):
        assert words in table, words
    for words in ("Parallel Coordinates", "log10.alpha vs. score", "val_harmonic_mean"):
        assert words in charts, words


def _page(address, profile):
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
    more = (f"--user-data-dir={profile}", "--window-size=1900,1300", "--virtual-time-budget=60000")
    command = [BROWSER, *options, *more, "--dump-dom", address]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=80).stdout
