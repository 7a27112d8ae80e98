"""Whatever is wrong is said in one line before any work, with exit code 2."""

import os
import socket
import subprocess
import sys

import pytest
from commands import ROOT, environment, run

import tuning.final
import tuning.search
from mianet.data.search_data import load_search_data
from mianet.errors import InputError
from tuning.compute import connection

SEARCH, FINAL = tuning.search.main, tuning.final.main

BAD = [
    (SEARCH, "", "the following arguments are required: --dataset"),
    (SEARCH, "--dataset imagenet", "the data set must be one of sun, cub, awa1"),
    (SEARCH, "--dataset synthetic:", "the data set must be one of"),
    (SEARCH, "--dataset apy", "aPY"),
    (SEARCH, "--dataset numbers --trials 0", "--trials: must be a whole number of at least 1"),
    (SEARCH, "--dataset numbers --trials 1e3", "--trials: must be a whole number of at least 1"),
    (SEARCH, "--dataset numbers --max-epochs 99999", "--max-epochs must be from 1 to 10000"),
    (SEARCH, "--dataset numbers --executions 101", "--executions must be from 1 to 100"),
    (SEARCH, "--dataset numbers --time-budget soon", "must be a time such as 90s, 30m or 2h"),
    (SEARCH, "--dataset numbers --time-budget 0m", "must be a time such as 90s, 30m or 2h"),
    (SEARCH, "--dataset numbers --seed -1", "--seed"),
    (SEARCH, "--dataset numbers --sampler best", "--sampler: invalid choice: 'best'"),
    (SEARCH, "--dataset numbers --scheduler pbt", "--scheduler: invalid choice: 'pbt'"),
    (SEARCH, "--dataset numbers --variant half", "--variant: invalid choice: 'half'"),
    (SEARCH, "--dataset numbers --search depth", "'depth' cannot be searched"),
    (SEARCH, "--dataset numbers --search ,", "at least one hyperparameter"),
    (SEARCH, "--dataset numbers --range alpha=5", "must be name=low:high"),
    (SEARCH, "--dataset numbers --range alpha=5:1", "must go from low to high"),
    (SEARCH, "--dataset numbers --range alpha=nan:1", "must go from low to high"),
    (SEARCH, "--dataset numbers --set hidden_dim", "must be name=value"),
    (SEARCH, "--dataset numbers --set hidden_dim=many", "hidden_dim must be a whole number"),
    (SEARCH, "--dataset numbers --set width=3", "'width' is not a hyperparameter"),
    (SEARCH, "--dataset numbers --set alpha=1", "alpha is both"),
    (SEARCH, "--dataset numbers --sampler cmaes --search latent_activation", "only numbers"),
    (SEARCH, "--dataset numbers --warm-start a b/", "--warm-start: must be up to 100 letters"),
    (SEARCH, "--dataset numbers --warm-start /a", "must be STUDY or DATASET/STUDY, but got '/a'"),
    (SEARCH, "--resume s --warm-start a", "--resume keeps the settings that the study was started"),
    (SEARCH, "--dataset numbers --objective speed", "--objective: invalid choice: 'speed'"),
    (
        SEARCH,
        "--dataset numbers --objective both --sampler cmaes",
        "needs a multi-objective sampler",
    ),
    (SEARCH, "--resume s --objective both", "--resume keeps the settings that the study was"),
    (SEARCH, "--dataset numbers --study ../up", "--study: must be up to 100 letters"),
    (SEARCH, "--dataset numbers --gpus-per-trial 1.5", "--gpus-per-trial: must be a fraction"),
    (SEARCH, "--dataset numbers --gpus-per-trial 64", "a trial must fit on a node"),
    (SEARCH, "--dataset numbers --cpus-per-trial 4096", "a trial must fit on a node"),
    (SEARCH, "--dataset numbers --tracking-uri gopher://x", "gopher://x"),
    (SEARCH, "--dataset numbers --tracking-uri http://[::1", "the tracking store must answer"),
    (SEARCH, "--dataset numbers --tracking-uri http://", "the tracking store must answer"),
    (
        SEARCH,
        "--dataset numbers --tracking-uri x:y",
        "tracking URI must start with one of http",
    ),
    (SEARCH, "--dataset numbers --tracking-uri sqlite:///", "must name a file"),
    (SEARCH, "--dataset numbers --tracking-uri http://127.0.0.1:9", "http://127.0.0.1:9"),
    (SEARCH, "--dataset numbers --tracking-uri sqlite:////proc/none/x.db", "/proc/none"),
    (SEARCH, "--dataset numbers --storage /proc/none", "/proc/none"),
    (SEARCH, "--resume nothing", "--resume must name a study in the storage folder, but nothing"),
    (SEARCH, "--resume ../up", "--resume: must be up to 100 letters"),
    (SEARCH, "--resume s --sampler tpe", "--resume keeps the settings that the study was started"),
    (SEARCH, "--resume s --dataset numbers --seed 1", "but got --dataset, --seed; only"),
    (FINAL, "--dataset numbers", "run a search first"),
    (FINAL, "--dataset numbers --seeds 0", "--seeds: must be a whole number of at least 1"),
]


HOSTILE_NAMES = [
    *("../../x", "/etc/x", "..", ".", "a/b", "a\\b", "-x", "-", "", " ", "a b", "a\nb", "\x1b[2Jx"),
    *(
        "x" * 101,
        "x" * 100_000,
        "a'; DROP TABLE runs; --",
        'a"b',
        "🐍",
        "ａ",
        "a\u202eb",
        "$(id)",
        "%00",
    ),
]
NUMBERS = ["nan", "inf", "-inf", "1e999", "-0", "0x10", "1_0", "١", "1.5", "", " ", "9" * 5000]
"""What is no positive whole number."""

ODD = [
    *((["--study", name], "argument --study: ") for name in HOSTILE_NAMES),
    *((["--trials", number], "argument --trials: ") for number in NUMBERS),
    *((["--workers", number], "argument --workers: ") for number in ("nan", "0", "-1", "1.0")),
    *((["--cpus-per-trial", number], "--cpus-per-trial: ") for number in ("inf", "0", "-3")),
    *((["--gpus-per-trial", number], "--gpus-per-trial: ") for number in ("nan", "1e999", "-1")),
    *((["--seed", number], "argument --seed: ") for number in ("nan", "-0", "0x10", "4294967296")),
    *((["--time-budget", text], "--time-budget: ") for text in ("nan", "inf", "-1s", "0x10", "1w")),
    *((["--final-seeds", number], "--final-seeds: ") for number in ("0", "many")),
    (["--dataset", ""], "the data set must be one of"),
    (["--dataset", "ａｐｙ"], "the data set must be one of"),
    (["--dataset", "x" * 100_000], "the data set must be one of"),
    (["--dataset", "apy\n\x1b[31m"], r"but got 'apy\n\x1b[31m'"),
    (["--dataset", "../../etc/passwd"], "a data set's folder must have"),
    (["--dataset", "synthetic:../x"], "a data set's folder must have"),
    (["--data-dir", ""], "a folder must be a path without NUL, but got ''"),
    (["--data-dir", "a\0b"], "a folder must be a path without NUL, but got 'a\\x00b'"),
    (["--data-dir", "~nosuchuser/x"], "a folder must be a path, but got '~nosuchuser/x'"),
    (["--storage", "~nosuchuser/x"], "a folder must be a path, but got '~nosuchuser/x'"),
    (["--storage", ""], "a folder must be a path without NUL"),
    (["--search", "alpha,alpha"], "must have each name only once, but repeats 'alpha'"),
    (["--search", "alpha,β"], "'β' cannot be searched"),
    (["--search", ""], "at least one hyperparameter"),
    (["--range", "alpha=1:2", "--range", "alpha=1:3"], "--range must be given only once for alpha"),
    (["--range", "alpha=1:2:3"], "must be name=low:high"),
    (["--range", "alpha="], "must be name=value"),
    (["--range", "alpha=0x1:0x10"], "must be name=low:high"),
    (["--range", "alpha=1:1"], "must go from low to high"),
    (["--range", "alpha=10:1"], "must go from low to high"),
    (["--range", "alpha=1:1e999"], "alpha must be a finite number, but got inf"),
    (["--range", "alpha=-inf:1"], "alpha must be a finite number, but got -inf"),
    (["--range", "alpha=-1:1"], "alpha must be 0 or more"),
    (["--range", "hidden_dim=1:inf"], "hidden_dim must be of whole numbers, but got 1:inf"),
    (["--range", "hidden_dim=1.5:2.5"], "hidden_dim must be of whole numbers, but got 1.5:2.5"),
    (["--range", "hidden_dim=0:9"], "hidden_dim must be more than 0"),
    (["--range", "depth=1:2"], "'depth' cannot be searched"),
    (["--range", "latent_activation=0:1"], "--range must be of a number"),
    (
        ["--set", "hidden_dim=1", "--set", "hidden_dim=2"],
        "--set must be given only once for hidden_dim",
    ),
    (["--set", "hidden_dim=1e3"], "hidden_dim must be a whole number"),
    (["--set", "hidden_dim=" + "9" * 5000], "hidden_dim must be a whole number"),
    (["--set", "hidden_dim=-0"], "hidden_dim must be more than 0"),
    (["--set", "strategy=\x1b[31mjoint"], r"but got '\x1b[31mjoint'"),
    (["--set", "orthogonal=1"], "orthogonal must be true or false"),
    (["--set", "__class__=1"], "'__class__' is not a hyperparameter"),
    (["--set", "=1"], "must be name=value"),
    (["--set"], "--set: expected one argument"),
    (["--nope\nx"], r"unrecognized arguments: --nope\nx"),
    (["\udcff"], r"unrecognized arguments: \udcff"),
    (["--tria", "3"], "unrecognized arguments: --tria 3"),
]


@pytest.mark.parametrize(("options", "message"), ODD, ids=lambda value: ascii(value)[:50])
def test_an_odd_option_gets_one_line(options, message, elsewhere, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["search.py", "--dataset", "numbers", *options])
    # No work before the options are checked.
    monkeypatch.delattr("tuning.cli.search_study.load_search_data")
    with pytest.raises(SystemExit) as ended:
        SEARCH()
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert ended.value.code == 2
    assert line.startswith("error: ")
    assert message in line
    assert line.isprintable()
    assert len(line) < 2000
    assert out == ""
    assert os.listdir(elsewhere) == []


@pytest.mark.parametrize("study", HOSTILE_NAMES)
def test_a_hostile_study_gets_one_line_from_the_final_training(
    study, elsewhere, monkeypatch, capfd
):
    monkeypatch.setattr(sys, "argv", ["final.py", "--dataset", "numbers", "--study", study])
    with pytest.raises(SystemExit) as ended:
        FINAL()
    (line,) = capfd.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith("error: argument --study: ")
    assert line.isprintable()


ODD_ENVIRONMENTS = [
    ({"MIANET_CACHE_DIR": "/etc/passwd"}, "set MIANET_CACHE_DIR to a folder with enough space"),
    ({"MIANET_CACHE_DIR": "/proc/none"}, "set MIANET_CACHE_DIR to a folder with enough space"),
    ({"MIANET_CACHE_DIR": "~nosuchuser/x"}, "MIANET_CACHE_DIR must be a path, but got '~nosuch"),
    ({"MIANET_CACHE_DIR": "x" * 5000}, "set MIANET_CACHE_DIR to a folder with enough space"),
]
ODD_DATA_FOLDERS = [
    ({"MIANET_DATA_DIR": "/etc/passwd"}, "/etc/passwd/APY nor /etc/passwd/xlsa17/data/APY"),
    ({"MIANET_DATA_DIR": "~nosuchuser/x"}, "MIANET_DATA_DIR) must be a path, but got '~nosuch"),
    ({"MIANET_DATA_DIR": "nowhere"}, "elsewhere/nowhere/APY nor"),
    ({"MIANET_DATA_DIR": ""}, "elsewhere/data/APY nor"),
    ({"MIANET_DATA_DIR": "a\nb"}, r"a\nb/APY nor"),
    ({"MIANET_DATA_DIR": "x" * 5000}, "aPY must be a folder with res101.mat"),
]


@pytest.mark.parametrize(
    ("dataset", "variables", "message"),
    [("numbers", *case) for case in ODD_ENVIRONMENTS]
    + [("apy", *case) for case in ODD_DATA_FOLDERS],
    ids=lambda value: ascii(value)[:50],
)
def test_an_odd_environment_gets_one_line(
    dataset, variables, message, elsewhere, monkeypatch, capfd
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["search.py", "--dataset", dataset])
    with pytest.raises(SystemExit) as ended:
        SEARCH()
    lines = [line for line in capfd.readouterr().err.splitlines() if "converting" not in line]
    assert ended.value.code == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert os.listdir(elsewhere) == []


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A store that has the numbers: the first conversion says so in a line of its own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIANET_CACHE_DIR", str(folder))
        load_search_data("numbers")
    return folder


@pytest.fixture
def elsewhere(tmp_path, monkeypatch, converted):
    """An empty current directory, where nothing of the machine's is found."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MIANET_CACHE_DIR", str(converted))
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "MIANET_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="module")
def local_ray():
    """One Ray for all of them: starting it takes seconds."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.parametrize(
    ("command", "options", "message"), BAD, ids=lambda x: getattr(x, "__module__", str(x)[:60])
)
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


def test_it_is_so_in_a_process_of_its_own(elsewhere, converted):
    """As the command line is really used, and with a cluster that does not answer."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        ended = subprocess.run(
            [sys.executable, ROOT / "tuning" / "search.py", "--dataset", "numbers"],
            cwd=elsewhere,
            env=environment(RAY_ADDRESS=address, MIANET_CACHE_DIR=str(converted)),
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: RAY_ADDRESS must name a running cluster, but {address}")
    assert len(ended.stderr.splitlines()) == 1
    assert os.listdir(elsewhere) == []


@pytest.mark.parametrize(
    "address",
    ["nonsense", "127.0.0.1:port", "127.0.0.1:99999", "ray://127.0.0.1:9", "::", "a\nb:1"],
)
def test_an_odd_ray_address_is_named(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(InputError, match="RAY_ADDRESS must name a running cluster, but") as refused:
        connection.connect()
    assert str(refused.value).isprintable()


PROCESSES = [
    (
        {"RAY_ADDRESS": "nonsense"},
        [],
        "error: RAY_ADDRESS must name a running cluster, but nonsense",
    ),
    ({"MIANET_CACHE_DIR": "/etc/passwd"}, [], "error: the store of numbers must be writable"),
    ({"PYTHONIOENCODING": "ascii"}, ["--study", "🐍"], "error: argument --study: must be up to"),
    ({"OMP_NUM_THREADS": "abc"}, ["--study", "../../x"], "error: argument --study: must be up to"),
    ({}, ["--set", "hidden_dim=nan"], "error: hidden_dim must be a whole number"),
]


@pytest.mark.parametrize(("variables", "options", "message"), PROCESSES, ids=lambda v: str(v)[:40])
def test_odd_input_to_a_real_process(elsewhere, tmp_path, variables, options, message):
    ended = run(
        "search",
        *("--dataset", "numbers", "--trials", "1", *options),
        cwd=elsewhere,
        **{"MIANET_CACHE_DIR": str(tmp_path / "cache"), **variables},
    )
    lines = [line for line in ended.stderr.splitlines() if not _is_expected(line)]
    assert ended.returncode == 2
    assert len(lines) == 1
    assert lines[0].startswith(message)
    assert os.listdir(elsewhere) == []


def _is_expected(line):
    """Tell whether it is of the converter, or of OpenMP, which goes on with its own number."""
    return line.startswith(("converting ", "libgomp: Invalid value")) or not line.strip()
