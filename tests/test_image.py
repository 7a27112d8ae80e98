"""infra/Dockerfile: linted, and its steps carried out as far as that goes without an engine."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commands import ROOT
from rehearsal.hosts import missing_namespaces
from rehearsal.image import DOCKERFILE, instructions

INSTRUCTIONS = list(instructions(DOCKERFILE.read_text()))
IMAGE = ROOT / "tests/rehearsal/image.py"
FILES = """
import json, os, pathlib
state = {
    "user": os.getuid(),
    "folder": os.getcwd(),
    "code": __import__("mianet").__file__,
    "changeable": os.access("/opt/mianet/mianet", os.W_OK),
    "torch": __import__("torch").version.cuda,
}
pathlib.Path("state.json").write_text(json.dumps(state))
"""


def all_of(name):
    return [rest for found, rest in INSTRUCTIONS if found == name]


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed: infra/venv.sh dev")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_it_copies_is_there_and_not_ignored():
    sources = {source for copied in all_of("COPY") for source in copied.split()[:-1]}
    assert sources <= {path.name for path in ROOT.iterdir()}
    ignored = DOCKERFILE.with_name(f"{DOCKERFILE.name}.dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == sources


def test_what_changes_often_comes_last():
    """A change of the code must not install the packages again."""
    installs = [n for n, (_, rest) in enumerate(INSTRUCTIONS) if "pip install" in rest]
    code = [n for n, step in enumerate(INSTRUCTIONS) if step == ("COPY", "mianet mianet")]
    assert installs
    assert max(installs) < code[0]


def test_it_has_the_python_that_is_tested():
    (base,) = all_of("FROM")
    oldest = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert base.startswith(f"python:{oldest[1]}.")


def test_kubernetes_runs_it_as_its_user():
    (user,) = all_of("USER")
    job = list(yaml.safe_load_all((ROOT / "infra/kubernetes.yaml").read_text()))[-1]
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"] == {"runAsNonRoot": True, "fsGroup": int(user)}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_search_runs_in_what_its_steps_make():
    if reason := missing_namespaces():
        pytest.skip(reason)
    search = "mianet-search --dataset numbers --trials 1 --max-epochs 1 --executions 1 --no-final"
    script = (
        f"{search} --fresh-draws 0 --set hidden_dim=16 --study tried && python -c '{FILES}' &&"
        " cat state.json && ls ray_results/tried"
    )
    done = subprocess.run(
        [
            *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"),
            *(sys.executable, str(IMAGE), "bash", "-l", "-c", script),
        ],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    state = json.loads(re.search(r"\{.*\}", done.stdout)[0])
    assert state == {
        "user": 1000,
        "folder": "/studies",
        "code": "/opt/mianet/mianet/__init__.py",
        "changeable": False,
        "torch": None,
    }
    assert "report.html" in done.stdout
