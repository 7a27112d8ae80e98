"""What a trial reports, epoch by epoch, and where it goes on after it was killed."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from worlds import small_search_data, small_settings

from tuning.compute.cluster import Share
from tuning.engine import checkpoints
from tuning.engine import trial as module
from tuning.engine.results import KEPT_BYTES
from tuning.engine.study import Study
from tuning.engine.trial import Plan, objective
from tuning.spec.models import MODELS
from tuning.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


def unfolded(report):
    """Return a report with its metrics beside the rest, without the memory of the process."""
    own = {name: value for name, value in report.items() if name != KEPT_BYTES}
    return {**own, **dict(report.get("metrics", ()))}


@pytest.fixture
def reports(monkeypatch):
    received = []
    monkeypatch.setattr(module.tune, "report", lambda r: received.append(unfolded(r)))
    return received


@pytest.fixture(autouse=True)
def always_due(monkeypatch):
    """A checkpoint after each epoch, although these last no time at all."""
    monkeypatch.setattr(checkpoints, "COST_SHARE", math.inf)


def config(**hyperparameters):
    return {"number": 3, "hyperparameters": hyperparameters}


def plan(folder, *, epochs=8, gpus=0, objective=DEFAULT_OBJECTIVE, settings=None):
    study = Study(
        name="s",
        space={},
        fixed={},
        trials=1,
        max_epochs=epochs,
        patience=epochs,
        executions=2,
        seed=0,
        sampler="random",
        scheduler="none",
        objective=objective,
    )
    return Plan(study, settings or small_settings(), Share(1, 1, gpus), folder)


@pytest.mark.parametrize("asked", OBJECTIVES)
def test_the_score_is_the_best_mean_so_far_and_says_where(reports, tmp_path, asked):
    of = OBJECTIVES[asked]
    objective(config(learning_rate=0.01), small_search_data(), plan(tmp_path, objective=asked))
    assert [r["epoch"] for r in reports] == list(range(1, 9))
    curve = [r[of.value] for r in reports]
    for number, report in enumerate(reports, 1):
        assert report["score"] == max(curve[:number])
        assert report["best_epoch"] == curve.index(report["score"]) + 1
        executions = [report[f"{of.metric}_execution_{k}"] for k in range(2)]
        assert report[of.metric] == pytest.approx(sum(executions) / 2)
        parts = [report[name] for name in of.parts or (of.metric,)]
        assert report[of.metric] == pytest.approx(sum(parts) / len(parts))


def test_divergence_is_reported_as_the_lowest_score(reports, tmp_path):
    objective(config(learning_rate=1e30), small_search_data(), plan(tmp_path))
    assert reports[-1]["score"] == 0.0
    assert "not finite" in reports[-1]["infeasible"]


class KilledError(BaseException):
    """Ends a trial as nothing in it expects."""


@pytest.mark.parametrize("epoch", [1, 2, 7])
def test_a_killed_trial_goes_on_from_its_last_epoch_bit_for_bit(
    reports, tmp_path, monkeypatch, epoch
):
    objective(config(alpha=0.2), small_search_data(), plan(tmp_path / "undisturbed", epochs=8))
    undisturbed = list(reports)
    reports.clear()

    def die(report):
        if report["epoch"] == epoch:
            raise KilledError
        reports.append(unfolded(report))

    monkeypatch.setattr(module.tune, "report", die)
    with pytest.raises(KilledError):
        objective(config(alpha=0.2), small_search_data(), plan(tmp_path, epochs=8))
    monkeypatch.setattr(module.tune, "report", lambda r: reports.append(unfolded(r)))
    trained = []
    really = module.Validation.epoch
    monkeypatch.setattr(module.Validation, "epoch", lambda self: trained.append(1) or really(self))
    reports.clear()
    objective(config(alpha=0.2), small_search_data(), plan(tmp_path, epochs=8))
    assert reports == undisturbed
    assert len(trained) == 8 - epoch


@pytest.mark.parametrize("damage", ["gone", "cut", "rubbish", "of another configuration"])
def test_a_lost_checkpoint_costs_time_only(reports, tmp_path, damage):
    path = tmp_path / "trial-00003.pt"
    objective(config(alpha=0.2), small_search_data(), plan(tmp_path, epochs=3))
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "rubbish":
        path.write_bytes(b"rubbish")
    else:
        objective(config(alpha=0.3), small_search_data(), plan(tmp_path, epochs=2))
        del reports[-2:]
    objective(config(alpha=0.2), small_search_data(), plan(tmp_path, epochs=3))
    assert reports[:3] == reports[3:]


def test_a_trial_begins_again_on_another_kind_of_device(reports, tmp_path, monkeypatch):
    """What a GPU's random numbers depend on means nothing to a CPU, and the other way round."""
    undisturbed = plan(tmp_path / "undisturbed", epochs=3)
    objective(config(alpha=0.2), small_search_data(), undisturbed)

    class OnGPU(module.Validation):
        def __init__(self, *args, device, **options):
            super().__init__(*args, device="cpu", **options)

        def state(self):
            return [{**s, "generator": torch.zeros(16, dtype=torch.uint8)} for s in super().state()]

    with monkeypatch.context() as patch:
        patch.setattr(module, "Validation", OnGPU)
        patch.setattr(module, "limit_to_share", lambda gpus: None)
        on_gpu = plan(tmp_path, epochs=2, gpus=1)
        objective(config(alpha=0.2), small_search_data(), on_gpu)
    del reports[3:]
    objective(config(alpha=0.2), small_search_data(), plan(tmp_path, epochs=3))
    assert reports[:3] == reports[3:]


def test_a_checkpoint_executes_nothing(reports, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"identity": Evil()}, tmp_path / "trial-00003.pt")
    objective(config(), small_search_data(), plan(tmp_path, epochs=1))
    assert len(reports) == 1
    assert not (tmp_path / "executed").exists()


def test_one_checkpoint_is_kept_and_no_temporary_file(reports, tmp_path):
    objective(config(), small_search_data(), plan(tmp_path, epochs=4))
    assert [p.name for p in tmp_path.iterdir()] == ["trial-00003.pt"]
    (tmp_path / "trial-00003.0123").touch()  # what a killed writer leaves
    (tmp_path / "trial-00004.pt").touch()
    checkpoints.remove_checkpoint(tmp_path, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["trial-00004.pt"]


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_trial(reports, tmp_path, caplog):
    (tmp_path / "file").touch()
    objective(config(), small_search_data(), plan(tmp_path / "file", epochs=2))
    assert len(reports) == 2
    assert "cannot write a checkpoint" in caplog.text


def test_checkpoints_take_a_small_share_of_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "COST_SHARE", 0.02)
    clock = FakeClock()
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock.now)
    file = checkpoints.CheckpointFile(tmp_path, 0, {})
    saved = []
    monkeypatch.setattr(file, "_save", lambda c: (saved.append(clock.now), clock.tick(1.0)))
    for _ in range(1000):
        clock.tick(2.0)
        file.save_if_due([], [{"x": torch.zeros(3)}])
    assert len(saved) * 1.0 <= 0.021 * clock.now
    assert max(b - a for a, b in itertools.pairwise(saved)) <= 50 * 1.0 + 2.0 + 1.0


class FakeClock:
    now = 0.0

    def tick(self, seconds):
        self.now += seconds


def test_an_error_of_the_code_reports_its_reason_and_is_raised(reports, tmp_path, monkeypatch):
    def broken(self):
        raise ValueError("seven is\nnot eight")

    monkeypatch.setattr(module.Validation, "epoch", broken)
    with pytest.raises(ValueError, match="seven"):
        objective(config(), small_search_data(), plan(tmp_path))
    assert [r["broken"] for r in reports] == ["ValueError: seven is not eight"]


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_want_of_memory_is_worth_another_try(reports, tmp_path, monkeypatch, error):
    def full(self):
        raise error

    monkeypatch.setattr(module.Validation, "epoch", full)
    with pytest.raises(error):
        objective(config(), small_search_data(), plan(tmp_path))
    assert reports == []


@pytest.mark.parametrize("name", [name for name in MODELS if name != "mianet"])
def test_a_model_is_trained_by_its_own_entry_and_goes_on_from_its_checkpoint(
    reports, tmp_path, name
):
    model = MODELS[name]
    epochs = 1 if model.closed_form else 3
    of_model = plan(tmp_path, epochs=epochs, settings=model.settings())
    objective(config(), small_search_data(), of_model)
    assert len(reports) == epochs
    assert all(0 <= report["val_harmonic_mean"] <= 1 for report in reports)
    objective(config(), small_search_data(), of_model)
    assert reports[:epochs] == reports[epochs:]
