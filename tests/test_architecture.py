"""The direction of imports, and that parsing a command line loads no heavy library."""

import subprocess
import sys
import tomllib
from collections import Counter
from graphlib import TopologicalSorter

import architecture
import pytest
from commands import ROOT, environment

import tuning.search
from mianet.inference.prediction import MODES
from tuning.engine.samplers import SAMPLERS
from tuning.engine.stopping import SCHEDULERS
from tuning.spec import choices
from tuning.spec.models import MODELS

COMMANDS = sorted(path.stem for path in (ROOT / "tuning").glob("[!_]*.py"))

LOADED = """
import runpy, sys
sys.argv = [{script!r}, "--help"]
try:
    runpy.run_path({script!r}, run_name="__main__")
except SystemExit as ended:
    assert ended.code == 0, ended.code
print("loaded", *sorted(m for m in sys.modules if "." not in m))
"""


def test_every_import_goes_down():
    assert architecture.violations() == set()


def test_public_functions_of_several_parameters_say_what_these_are():
    assert architecture.undocumented() == []


def test_no_modules_import_each_other_in_a_circle():
    known = architecture.modules()
    graph = {
        module: set(architecture.imports_of(path, known)) & known.keys() - {module}
        for module, path in known.items()
    }
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert len(order) == len(known)


def test_a_wrong_import_is_found(tmp_path, monkeypatch):
    package = tmp_path / "tuning" / "events"
    package.mkdir(parents=True)
    (tmp_path / "mianet").mkdir()
    (package / "__init__.py").write_text("")
    (package / "log.py").write_text("def late():\n    from mlflow.entities import Run\n")
    (tmp_path / "mianet" / "model.py").write_text("import tuning.events.log\nimport optuna\n")
    monkeypatch.setattr(architecture, "ROOT", tmp_path)
    assert architecture.violations() == {
        ("tuning.events.log", "mlflow.entities"),
        ("mianet.model", "tuning.events.log"),
        ("mianet.model", "optuna"),
    }


def test_no_name_hides_another():
    """``python tuning/search.py`` puts ``tuning`` first on the path."""
    names = Counter(path.stem for path in (ROOT / "tuning").iterdir() if path.suffix in ("", ".py"))
    assert not [name for name, count in names.items() if count > 1]
    hidden = {*sys.stdlib_module_names, "mianet", "mlflow", "optuna", "ray", "torch"}
    assert not names.keys() & hidden


def test_a_command_tells_the_version_of_the_package(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["search.py", "--version"])
    with pytest.raises(SystemExit):
        tuning.search.main()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert capsys.readouterr().out == f"{project['name']} {project['version']}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_no_heavy_library(command, tmp_path):
    script = str(ROOT / "tuning" / f"{command}.py")
    ended = subprocess.run(
        [sys.executable, "-c", LOADED.format(script=script)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = set(ended.stdout.rpartition("loaded ")[2].split())
    assert {"argparse", "tuning"} <= loaded
    assert not loaded & {"torch", "ray", "mlflow", "optuna", "scipy", "numpy", "pandas"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_parses_and_calls(command):
    lines = (ROOT / "tuning" / f"{command}.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 80


def test_the_command_lines_offer_what_is_registered():
    assert set(choices.MODEL_NAMES) == set(MODELS)
    assert set(choices.SAMPLER_NAMES) == set(SAMPLERS)
    assert set(choices.SCHEDULER_NAMES) == set(SCHEDULERS)
    assert set(choices.PREDICTION_MODES) == set(MODES)
