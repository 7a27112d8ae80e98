"""Whatever is wrong is said in one line before any work, with exit code 2."""

import os
import socket
import subprocess
import sys

import pytest
from commands import ROOT, environment

import tuning.final
import tuning.search

SEARCH, FINAL = tuning.search.main, tuning.final.main

BAD = [
    (SEARCH, "", "the following arguments are required: --dataset"),
    (SEARCH, "--dataset imagenet", "the data set must be one of sun, cub, awa1"),
    (SEARCH, "--dataset synthetic:", "the data set must be one of"),
    (SEARCH, "--dataset apy", "aPY"),
    (SEARCH, "--dataset digits --trials 0", "--trials: must be a whole number of at least 1"),
    (SEARCH, "--dataset digits --trials 1e3", "--trials: must be a whole number of at least 1"),
    (SEARCH, "--dataset digits --max-epochs 99999", "--max-epochs must be from 1 to 10000"),
    (SEARCH, "--dataset digits --executions 101", "--executions must be from 1 to 100"),
    (SEARCH, "--dataset digits --time-budget soon", "must be a time such as 90s, 30m or 2h"),
    (SEARCH, "--dataset digits --time-budget 0m", "must be a time such as 90s, 30m or 2h"),
    (SEARCH, "--dataset digits --seed -1", "--seed"),
    (SEARCH, "--dataset digits --sampler best", "--sampler: invalid choice: 'best'"),
    (SEARCH, "--dataset digits --scheduler pbt", "--scheduler: invalid choice: 'pbt'"),
    (SEARCH, "--dataset digits --variant half", "--variant: invalid choice: 'half'"),
    (SEARCH, "--dataset digits --search depth", "'depth' cannot be searched"),
    (SEARCH, "--dataset digits --search ,", "at least one hyperparameter"),
    (SEARCH, "--dataset digits --range alpha=5", "must be name=low:high"),
    (SEARCH, "--dataset digits --range alpha=5:1", "must go from low to high"),
    (SEARCH, "--dataset digits --range alpha=nan:1", "must go from low to high"),
    (SEARCH, "--dataset digits --set hidden_dim", "must be name=value"),
    (SEARCH, "--dataset digits --set hidden_dim=many", "hidden_dim must be a whole number"),
    (SEARCH, "--dataset digits --set width=3", "'width' is no hyperparameter"),
    (SEARCH, "--dataset digits --set alpha=1", "alpha is both"),
    (SEARCH, "--dataset digits --sampler cmaes --search latent_activation", "numbers only"),
    (SEARCH, "--dataset digits --study ../up", "--study: must be up to 100 letters"),
    (SEARCH, "--dataset digits --gpus-per-trial 1.5", "--gpus-per-trial: must be a fraction"),
    (SEARCH, "--dataset digits --gpus-per-trial 64", "a trial must fit a node"),
    (SEARCH, "--dataset digits --cpus-per-trial 4096", "a trial must fit a node"),
    (SEARCH, "--dataset digits --tracking-uri gopher://x", "gopher://x"),
    (SEARCH, "--dataset digits --tracking-uri http://127.0.0.1:9", "http://127.0.0.1:9"),
    (SEARCH, "--dataset digits --tracking-uri sqlite:////proc/none/x.db", "/proc/none"),
    (SEARCH, "--dataset digits --storage /proc/none", "/proc/none"),
    (FINAL, "--dataset digits", "run a search first"),
    (FINAL, "--dataset digits --seeds 0", "--seeds: must be a whole number of at least 1"),
]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty current directory, where nothing of the machine's is found."""
    monkeypatch.chdir(tmp_path)
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "MIANET_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def local_ray():
    """One Ray for all of them: starting it takes seconds."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.parametrize(("command", "options", "message"), BAD, ids=lambda value: str(value)[:60])
def test_one_line_and_exit_code_2(
    command, options, message, elsewhere, local_ray, monkeypatch, capfd
):
    monkeypatch.setattr(sys, "argv", ["command", *options.split()])
    with pytest.raises(SystemExit) as ended:
        command()
    out, err = capfd.readouterr()
    assert ended.value.code == 2
    assert message in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1, err
    assert "study" not in out
    assert not (elsewhere / "ray_results").exists()


def test_it_is_so_in_a_process_of_its_own(elsewhere):
    """As the command line is really used, and with a cluster that does not answer."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        ended = subprocess.run(
            [sys.executable, ROOT / "tuning" / "search.py", "--dataset", "digits"],
            cwd=elsewhere,
            env=environment(RAY_ADDRESS=address),
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: RAY_ADDRESS must name a running cluster, but {address}")
    assert len(ended.stderr.splitlines()) == 1
    assert os.listdir(elsewhere) == []
