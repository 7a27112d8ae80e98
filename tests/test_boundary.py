"""No code of a search can read a test part, and nothing of the unseen classes takes part in one."""

import ast
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, SMALL, run

from mianet.data.search_data import load_search_data
from mianet.data.test_parts import load_test_parts
from tuning.spec.models import MODELS
from tuning.tracking.reading import read_trials

FORBIDDEN = {
    "mianet.data.test_parts",
    "mianet.final_training",
    "tuning.final",
    "tuning.finals.training",
}
SEARCH = (
    "tuning.search",
    "tuning.engine.running",
    "tuning.engine.trial",
    "tuning.engine.progress",
    "tuning.confirm",
    "mianet.validation",
    *(model.settings.trainer.partition(":")[0] for model in MODELS.values()),
)


def imports_of(module):
    path = ROOT / Path(*module.split(".")).with_suffix(".py")
    if not path.exists():
        return set()
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith(("mianet", "tuning"))}


def reachable(modules):
    seen, waiting = set(), list(modules)
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += imports_of(module)
    return seen


def test_nothing_that_a_search_imports_can_open_the_test_parts():
    from_search = reachable(SEARCH)
    assert {"mianet.training", "mianet.protocol", "tuning.tracking.recording"} <= from_search
    assert {"mianet.reference.least_squares", "mianet.reference.ranking"} <= from_search
    assert not FORBIDDEN & from_search


def test_the_check_above_would_find_it():
    assert reachable(["tuning.final"]) >= FORBIDDEN


@pytest.mark.usefixtures("one_ray")
def test_a_search_gives_the_same_figures_when_the_test_parts_are_rubbish(tmp_path):
    cache = tmp_path / "cache"
    options = ("--trials", "2", "--workers", "1", "--no-final", *SMALL)
    scores = []
    for study in ("clean", "spoiled"):
        if study == "spoiled":
            spoil(cache)
        ended = run(
            "search",
            *("--dataset", "numbers", "--study", study, *options),
            cwd=tmp_path,
            MIANET_CACHE_DIR=str(cache),
        )
        assert ended.returncode == 0, ended.stderr
        trials = read_trials(f"sqlite:///{tmp_path / 'mlflow.db'}", "numbers", study)
        scores.append(sorted((t.number, t.score, t.best_epoch) for t in trials))
    assert scores[0] == scores[1]
    assert spoiled_is_still_there(cache)


def spoil(cache):
    random = np.random.default_rng(0)
    for path in test_files(cache):
        path.chmod(0o644)
        path.write_bytes(random.bytes(path.stat().st_size))


def test_files(cache):
    found = [p for p in cache.rglob("*.npy") if p.parent.name == "test"]
    assert found
    return found


test_files.__test__ = False


def spoiled_is_still_there(cache):
    """The files were neither read nor, having been found damaged, written again."""
    return all(b"NUMPY" not in path.read_bytes()[:64] for path in test_files(cache))


def test_search_data_holds_seen_classes_only():
    data, test = load_search_data("numbers"), load_test_parts("numbers")
    assert set(data.class_ids) == set(test.seen_classes)
    assert not set(data.class_names) & {test.class_names[i] for i in test.unseen_classes}
    for attributes in test.class_attributes[test.unseen_classes]:
        assert not (data.class_attributes == attributes).all(axis=1).any()
    ours = {row.tobytes() for row in np.asarray(data.features)}
    theirs = {row.tobytes() for row in np.asarray(test.test_unseen_features)}
    assert not ours & theirs
