"""Replayed searches: their decisions are those of a real search of Ray Tune on the same curves."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray.tune import Trainable
from ray.tune.execution import class_cache

sys.path.insert(0, str(Path(__file__).resolve().parent / "benchmarks"))

import compare_objectives
import compare_selection
import forks
from compare_searches import interval, lines, one
from curve_table import About
from draw_searches import draw
from optuna.trial import TrialState
from record_curves import sobol_configurations
from replay import Curves, Replay, Search, TableProposer, World, incumbents, regret_at
from stand_in_search import events_of_search
from telling import PATIENCE as CUT_SHORT
from telling import TELLINGS

from tuning.compute.cluster import Share
from tuning.engine import results, running
from tuning.engine.stopping import SCHEDULERS
from tuning.events.event import Closed, Ended, EpochDone, Opened, Proposed
from tuning.spec.objectives import OBJECTIVES
from tuning.spec.space import search_space, space_to_json

TRIALS, EPOCHS, PATIENCE = 20, 12, 4


def invented_curves(configurations=60, draws=9):
    """Curves that rise and fall at different paces; some configurations diverge."""
    about = About("numbers", "", 1.0, EPOCHS, 0, space_to_json(search_space()))
    random = np.random.default_rng(7)
    shape = (configurations, draws, EPOCHS)
    peaks = random.uniform(1, 1.5 * EPOCHS, (configurations, 1, 1))
    heights = random.uniform(0.1, 0.6, (configurations, 1, 1))
    epochs = np.arange(1, EPOCHS + 1)
    h = heights * np.exp(-((np.log(epochs / peaks)) ** 2)) + random.normal(0, 0.02, shape)
    lasting = np.full(shape[:2], EPOCHS)
    lasting[2::4] = 2
    h[np.arange(EPOCHS) >= lasting[..., None]] = np.nan
    return Curves(
        about=about,
        values=sobol_configurations(about, configurations),
        figures={"harmonic_mean": np.abs(h)},
        objective="harmonic_mean",
        seconds=random.uniform(0.01, 0.02, configurations),
        lasting=lasting,
    )


CURVES = invented_curves()


@pytest.fixture(scope="module")
def local_ray():
    with forks.forked_workers():
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def real_events(world, sampler, scheduler, tmp_path, monkeypatch):
    """Search with Ray Tune, one worker, and a trainable that knows the curves."""
    rows = {tuple(values): row for row, values in enumerate(world.curves.values)}
    mean, lasting, names = world.mean, world.lasting, world.curves.about.names
    spelt = {name: getattr(results, name) for name in ("EPOCH", "SCORE", "BEST_EPOCH", "METRICS")}
    infeasible, configuration = results.INFEASIBLE, results.CONFIGURATION

    def recorded(config, data, plan):
        from ray import tune

        epoch, score, best, metrics = spelt.values()
        row = rows[tuple(config[configuration][name] for name in names)]
        highest, at = -1.0, 0
        for number in range(1, plan.study.max_epochs + 1):
            if number > lasting[row]:
                tune.report({epoch: number, score: 0.0, best: 0, infeasible: "diverged"})
                return
            if mean[row, number - 1] > highest:
                highest, at = float(mean[row, number - 1]), number
            tune.report({epoch: number, score: highest, best: at, metrics: []})

    def proposer(space, *, sampler, seed, **more):
        return TableProposer(world.curves, sampler=sampler, seed=seed)

    monkeypatch.setattr(running, "objective", recorded)
    monkeypatch.setattr(running, "Proposer", proposer)
    events = events_of_search(
        *(tmp_path, Share(1, 1, 0)),
        trials=TRIALS,
        max_epochs=EPOCHS,
        patience=PATIENCE,
        executions=5,
        seed=3,
        sampler=sampler,
        scheduler=scheduler,
    )
    assert (type(events[0]), events[-1]) == (Opened, Closed("finished"))
    return events[1:-1]


def essence(event):
    if isinstance(event, Proposed):
        return "proposed", event.number, dict(event.configuration), event.origin
    if isinstance(event, EpochDone):
        return "epoch", event.number, event.epoch, event.score, event.best_epoch
    return "ended", event.number, event.status


@pytest.mark.parametrize("scheduler", ["asha", "median"])
def test_the_decisions_are_those_of_a_real_search(scheduler, local_ray, tmp_path, monkeypatch):
    world = World.of(CURVES, 4)
    real = real_events(world, "tpe", scheduler, tmp_path, monkeypatch)
    search = Search(
        sampler="tpe",
        scheduler=SCHEDULERS[scheduler],
        trials=TRIALS,
        patience=PATIENCE,
    )
    replayed = Replay(world, search, 3).run().events
    assert [essence(event) for event in replayed] == [essence(event) for event in real]
    ends = {event.status for event in real if isinstance(event, Ended)}
    assert ends == {"finished", "stopped_early", "infeasible"}


def test_trials_run_in_workers_that_ray_has_started(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    running._reuse_started_workers()
    actor = class_cache._ActorClassCache().get(Trainable)
    assert actor._default_options["runtime_env"] == {}  # as theirs; else Ray starts others


@pytest.mark.parametrize("workers", [1, 3, 16])
def test_every_trial_ends_once_and_workers_share_the_time(workers):
    world = World.of(CURVES, 0)
    search = Search(sampler="random", scheduler=SCHEDULERS["none"], trials=30, workers=workers)
    history = Replay(world, search, 0).run()
    assert sorted(e.number for e in history.events if isinstance(e, Ended)) == list(range(30))
    assert len(set(history.rows.values())) == 30
    epochs = [e.number for e in history.events if isinstance(e, EpochDone)]
    diverged = sum(isinstance(e, Ended) and e.status == "infeasible" for e in history.events)
    assert history.executions[-1] == 5 * (len(epochs) + diverged)
    running, most = 0, 0
    for event in history.events:
        running += isinstance(event, Proposed) - isinstance(event, Ended)
        most = max(most, running)
    assert most == workers
    busy = sum(5 * CURVES.seconds[history.rows[number]] for number in epochs)
    assert history.seconds[-1] >= busy / workers * 0.999
    assert history.seconds[-1] <= busy / workers + 5 * EPOCHS * CURVES.seconds.max() * 1.2


def test_a_search_is_judged_by_draws_that_it_did_not_meet():
    world = World.of(CURVES, 8)
    met = [
        d
        for d in range(9)
        if any((world.of_draws[0, k] == CURVES.objectives[0, d]).all() for k in range(5))
    ]
    assert len(met) == 5
    others = [d for d in range(9) if d not in met]
    np.testing.assert_allclose(world.truth[0], CURVES.objectives[0, others].mean(0))


def test_regret_is_that_of_the_highest_score_so_far():
    world = World.of(CURVES, 2)
    search = Search(sampler="qmc", scheduler=SCHEDULERS["asha"], trials=40, workers=4)
    history = Replay(world, search, 2).run()
    found = incumbents(world, history)
    last = max(
        (e for e in history.events if isinstance(e, EpochDone)
         and world.lasting[history.rows[e.number]] >= e.epoch + (e.epoch < EPOCHS)),
        key=lambda e: e.score,
    )  # fmt: skip
    assert found[-1][2] == history.rows[last.number]
    regret = regret_at(world, found, [history.executions[-1]], 1)
    assert regret == world.best - world.truth[found[-1][2], found[-1][3] - 1]
    assert regret >= 0
    assert np.isnan(regret_at(world, found, [0], 1)).all()


def test_the_sampler_learns_the_configuration_that_answered():
    proposer = TableProposer(CURVES, sampler="tpe", seed=1)
    for _ in range(12):
        proposed = proposer.propose()
        row = proposer.rows[proposed.number]
        assert tuple(proposed.configuration.values()) == CURVES.values[row]
        known = proposer._study.get_trials(deepcopy=False)[proposed.number]
        assert {n: known.params[n] for n in CURVES.about.names} == dict(proposed.configuration)
        proposer.handle(proposed)
    assert proposer.rows[0] == 0


def test_a_table_that_is_used_up_says_so():
    proposer = TableProposer(invented_curves(3), sampler="random", seed=1)
    for _ in range(3):
        proposer.propose()
    with pytest.raises(ValueError, match="at most, as recorded"):
        proposer.propose()


def test_a_trials_value_is_smoothed_as_a_worker_smoothes_it():
    curves = dataclasses.replace(
        CURVES, figures={"ausuc": CURVES.figures["harmonic_mean"]}, objective="ausuc"
    )
    world, objective = World.of(curves, 8), OBJECTIVES["ausuc"]
    for row in (0, 2):
        reported = []
        for epoch in range(world.lasting[row]):
            mean = float(world.of_draws[row, :, epoch].mean())
            reported.append(objective.with_value({objective.metric: mean}, reported))
        values = [one[objective.value] for one in reported]
        np.testing.assert_allclose(world.mean[row, : len(values)], values)
        assert np.isnan(world.mean[row, len(values) :]).all()


@pytest.mark.parametrize("telling", TELLINGS)
def test_what_is_told_of_a_trial_cut_short(telling):
    world = World.of(CURVES, 1)
    search = Search(
        sampler="tpe", scheduler=SCHEDULERS["asha"], trials=60, proposer=TELLINGS[telling]
    )
    replayed = Replay(world, search, 1)
    history = replayed.run()
    known = replayed.proposer._study.get_trials(deepcopy=False)
    last = {e.number: e for e in history.events if isinstance(e, EpochDone)}
    ended = {e.number: e.status for e in history.events if isinstance(e, Ended)}
    short = [
        number
        for number, status in ended.items()
        if status == "stopped_early" and last[number].epoch - last[number].best_epoch < CUT_SHORT
    ]
    assert len(short) > 10
    expected = {"as pruned": TrialState.PRUNED, "as nothing": TrialState.FAIL}
    for number in short:
        assert known[number].state == expected.get(telling, TrialState.COMPLETE)
        if telling == "as pruned":
            assert known[number].intermediate_values == {last[number].epoch: last[number].score}
        if telling == "as complete":
            assert known[number].value == last[number].score
        if telling == "extrapolated":
            assert known[number].value >= last[number].score
    if telling == "extrapolated":
        assert any(known[number].value > last[number].score for number in short)
    for number, status in ended.items():
        if status == "finished":
            assert known[number].value == last[number].score


def test_a_comparison_is_told_and_drawn(tmp_path):
    searches = {
        f"{sampler} · 1": Search(
            sampler=sampler, scheduler=SCHEDULERS["none"], trials=60, budget=800
        )
        for sampler in ("qmc", "random")
    }
    results = [
        one(World.of(CURVES, seed), n, s, seed) for n, s in searches.items() for seed in range(4)
    ]
    for result in results:
        assert np.nanmax(result.by_compute) <= result.top
        assert result.by_compute[-1] <= result.top
        assert result.lowest >= np.nanmax(result.by_compute[-1]) - 1e-9
    assert [line.split(" ")[1] for line in lines(results)[2:]] == ["qmc", "random"]
    table = pa.Table.from_pylist([dataclasses.asdict(result) for result in results])
    about = {
        "table": "numbers", "suite": "samplers", "budget": 800, "configurations": 60,
        "draws": 9,
    }  # fmt: skip
    table = table.replace_schema_metadata({b"about": json.dumps(about).encode()})
    (tmp_path / "results").mkdir()
    pq.write_table(table, tmp_path / "results" / "numbers-samplers.parquet")
    draw(tmp_path / "results", tmp_path / "docs")
    page = (tmp_path / "docs" / "results.md").read_text()
    mean = 100 * np.mean([r.by_compute[-1] for r in results if r.name.startswith("qmc")])
    assert f"| qmc · 1 | {mean:.1f} |" in page
    assert (tmp_path / "docs" / "numbers-samplers.png").stat().st_size > 10_000


def test_an_interval_holds_the_mean_as_often_as_it_says():
    random = np.random.default_rng(3)
    samples = random.normal(size=(300, 40))
    held = 0
    for sample in samples:
        low, high = interval(sample[:, None], 300)
        held += low[0] <= 0 <= high[0]
    assert 0.88 < held / len(samples) < 0.98


def test_fresh_draws_and_judges_are_other_draws_than_those_of_the_search():
    curves = invented_curves(draws=15)
    division = compare_selection.Division.of(curves, seed=3)
    parts = division.met, division.fresh, division.judging
    assert [len(part) for part in parts] == [5, compare_selection.FRESH, 4]
    assert len(set(np.concatenate(parts))) == 15


def test_where_few_have_further_draws_the_search_meets_the_first_ones():
    curves = invented_curves(draws=15)
    curves.lasting[7:, 5:] = -1
    division = compare_selection.Division.of(curves, seed=3)
    assert list(division.met) == [0, 1, 2, 3, 4]
    figure = compare_selection.figure_of(curves, "harmonic_mean", 4, division.judging, 1)
    assert figure.mean() > 0
    with pytest.raises(compare_selection.UnrecordedError):
        compare_selection.figure_of(curves, "harmonic_mean", 8, division.judging, 1)


def test_every_way_of_selecting_keeps_to_the_budget_and_confirming_promises_less():
    curves = invented_curves(configurations=200, draws=15)
    h = curves.objectives
    noise = np.random.default_rng(5).normal(0, 0.3, h.shape[:2])[..., None]
    noisy = np.clip(h + noise, 0, None)
    figures = dict.fromkeys(compare_selection.JUDGED, noisy)
    budget = 1000
    found, left_out = compare_selection.compare(
        dataclasses.replace(curves, figures=figures), budget, seeds=8
    )
    assert left_out == 0
    of = {
        name: {
            what: np.mean([getattr(f, what) for f in each])
            for what in ("score", "truth", "trials", "confirming")
        }
        for name, each in found.items()
    }
    whole, early, _, confirmed, halved = of.values()
    assert whole["trials"] < confirmed["trials"] <= halved["trials"] < early["trials"]
    assert budget / EPOCHS / 5 <= whole["trials"]  # more where some diverge
    assert 0 < halved["confirming"] < confirmed["confirming"]
    optimism = [each["score"] - each["truth"] for each in (early, confirmed)]
    assert optimism[1] < optimism[0]
    assert all(line.startswith("|") for line in compare_selection.lines(found))


def test_the_objective_with_less_noise_tells_configurations_apart():
    random = np.random.default_rng(2)
    true = random.uniform(0.2, 0.6, (40, 1, 1)) * np.linspace(0.5, 1, EPOCHS)
    noises = {"harmonic_mean": 0.2, "calibrated": 0.02, "zsl_accuracy": 0.1, "ausuc": 0.01}
    figures = {name: true + random.normal(0, noise, (40, 8, 1)) for name, noise in noises.items()}
    curves = dataclasses.replace(invented_curves(40, 8), figures=figures)
    found = compare_objectives.compare(curves, met=3, seeds=20)
    by_noise = sorted(noises, key=noises.get)
    for place in (0, 1):
        values = [found[name][place] for name in by_noise]
        assert values == sorted(values, reverse=True)
    assert found["ausuc"][2].mean() > found["harmonic_mean"][2].mean()
    assert len(compare_objectives.lines(found, [0.0] * 4)) == 2 + 4 + 1
