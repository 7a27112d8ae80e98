"""The command that reproduces the paper, as a user runs it."""

import sys

import mlflow
import pandas as pd
import pytest
from commands import run

import tuning.reproduce
from mianet.errors import InputError
from tuning.compute import cluster, connection
from tuning.paper.evidence import MULTIPLIERS
from tuning.paper.experiments import EXPERIMENTS

SMALL = ("--config", "paper", "--epochs", "1", "--seeds", "2", "--set", "hidden_dim=12")
ONLY = ("table2", "figure5", "figure11")


@pytest.mark.timeout(420)
def test_tables_and_figures_are_written_and_recorded(tmp_path):
    options = ("--dataset", "numbers", *SMALL, "--only", ",".join(ONLY))
    ended = run("reproduce", *options, cwd=tmp_path, timeout=400)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    # full and three ablations, two seeds each, although three experiments want the first.
    assert "3 tables and figures from 8 trainings" in ended.stdout
    folder = tmp_path / "paper" / "numbers-paper"
    assert {child.name for child in folder.iterdir()} == {*ONLY, "README.md", "claims.md"}
    assert "MIANet, this code (paper)" in (tmp_path / "paper" / "table2.md").read_text()
    index = (folder / "README.md").read_text()
    claims = (folder / "claims.md").read_text()
    assert claims in index
    assert "| figure5 | reconstruction raises T1 |" in claims
    for name in ("figure5", "figure11"):
        assert f"({name}/{name}.png)" in index

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "mianet-numbers")
    runs = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    parent = runs.pop("paper (paper)")
    assert set(runs) == set(ONLY)
    assert {r.info.status for r in (parent, *runs.values())} == {"FINISHED"}
    assert parent.data.tags["configuration"] == "paper"
    for name, one in runs.items():
        assert one.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert one.data.params["arms"] == ", ".join(EXPERIMENTS[name].arms)
        assert (
            "the paper's configuration with hidden_dim=12" in one.data.tags["mlflow.note.content"]
        )
        artifacts = {a.path for a in client.list_artifacts(one.info.run_id)}
        assert artifacts == {path.name for path in (folder / name).iterdir()}
    row = pd.read_csv(folder / "table2" / "table2.csv").set_index("figure").loc["H"]
    assert 100 * runs["table2"].data.metrics["harmonic_mean_mean"] == pytest.approx(row["mean"])


def test_trainings_share_gpus_by_what_the_largest_of_them_needs(tmp_path, monkeypatch):
    asked = {}

    def stop(trainings, **options):
        asked.update(options, trainings=trainings)
        raise InputError("this is all that was to be seen")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(connection, "connect", lambda: "this machine")
    monkeypatch.setattr(cluster, "share_resources", stop)
    sizes = {}
    for only in ("table2", "figure6"):
        arguments = ["--dataset", "numbers", *SMALL, "--only", only]
        monkeypatch.setattr(sys, "argv", ["reproduce", *arguments])
        with pytest.raises(SystemExit):
            tuning.reproduce.main()
        sizes[only] = asked["need"].weights
    assert asked["trainings"] == 2 * len(MULTIPLIERS)
    # figure 6 goes up to a latent space twice as wide as the configuration's
    assert sizes["figure6"] > 1.5 * sizes["table2"]


BAD = [
    ("", "the following arguments are required: --dataset"),
    ("--dataset numbers --only figure3", "--only must name some of table2"),
    ("--dataset numbers --config best", "--config: invalid choice: 'best'"),
    ("--dataset numbers --seeds 0", "--seeds: must be a whole number of at least 1"),
    ("--dataset numbers", "run a search first"),
    ("--dataset numbers --config paper", "must have --epochs or a recorded"),
    (
        "--dataset numbers --config paper --epochs 1 --set width=3",
        "'width' is not a hyperparameter",
    ),
    (
        "--dataset numbers --config paper --epochs 1 --output /proc/none",
        "--output must be a writable folder",
    ),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_what_is_wrong_is_said_in_one_line_before_any_work(
    options, message, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "MIANET_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["reproduce", *options.split()])
    with pytest.raises(SystemExit) as ended:
        tuning.reproduce.main()
    _, err = capfd.readouterr()
    assert ended.value.code == 2
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1, err
    assert list(tmp_path.iterdir()) == []
