"""One objective or two, from the worker's figures to the choice."""

import dataclasses
import random
import statistics

import mlflow
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from recorded import STUDY, StudyRecorder
from test_selection import a_trial

from mianet.errors import InputError
from mianet.evaluation import Metrics, Summary
from tuning.analysis.comparison import pareto_front
from tuning.analysis.selection import select
from tuning.engine.samplers import SAMPLERS
from tuning.engine.searcher import Proposer
from tuning.engine.study import Study
from tuning.events.event import Ended, EpochDone, Opened, Proposed
from tuning.events.log import open_log
from tuning.events.projector import Projector
from tuning.report.page import document
from tuning.report.subject import Subject
from tuning.spec.objectives import OBJECTIVES
from tuning.spec.records import OBJECTIVE_TAG, Confirmation
from tuning.spec.space import search_space
from tuning.tracking.optuna_projection import OptunaProjection
from tuning.tracking.reading import read_study, read_trials

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

optuna.logging.set_verbosity(optuna.logging.ERROR)

SPACE = search_space(("alpha", "learning_rate"))
ABLE = [name for name, sampler in SAMPLERS.items() if sampler.multi_objective]
CURVES = {  # number → by epoch: H and T1
    0: [(0.30, 0.10), (0.10, 0.20), (0.20, 0.40)],
    1: [(0.10, 0.60), (0.05, 0.55)],
    2: [(0.15, 0.30)],
}
BEST = {  # objective → number → best epoch and score
    "harmonic_mean": {0: (1, 0.30), 1: (1, 0.10), 2: (1, 0.15)},
    "ausuc": {0: (1, 0.30), 1: (1, 0.10), 2: (1, 0.15)},
    "zsl_accuracy": {0: (3, 0.70 / 3), 1: (1, 0.60), 2: (1, 0.30)},
    "calibrated": {0: (3, 0.70 / 3), 1: (1, 0.60), 2: (1, 0.30)},
    "both": {0: (3, 0.65 / 3), 1: (1, 0.35), 2: (1, 0.225)},
}


def figures(h, t1):
    """Return what a worker reports of two executions; AUSUC is as H, calibrated H as T1."""
    two = {
        k: Metrics(0.0, 0.0, h + d, t1 - d, ausuc=h + d, calibrated_harmonic_mean=t1 - d)
        for k, d in enumerate((-0.01, 0.01))
    }
    own = {f"{n}_execution_{k}": v for k, m in two.items() for n, v in m.as_dict("val_").items()}
    return {**Summary(0.0, tuple(two.values())).mean.as_dict("val_"), **own}


def record(uri, objective):
    description = dataclasses.replace(STUDY, name=objective, objective=objective)
    with StudyRecorder(uri, description) as recorder:
        for number, curve in CURVES.items():
            origin = "paper" if number == 0 else "tpe"
            recorder.trial_started(f"t{number}", number, {"alpha": 1.0 + number}, origin=origin)
            reported = []
            for epoch, (h, t1) in enumerate(curve, 1):
                reported.append(OBJECTIVES[objective].with_value(figures(h, t1), reported))
                recorder.epoch_finished(f"t{number}", epoch, reported[-1])
            recorder.trial_ended(f"t{number}", "finished")
    return read_study(uri, STUDY.dataset, objective)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    uri = f"sqlite:///{tmp_path_factory.mktemp('objectives')}/mlflow.db"
    return uri, {objective: record(uri, objective) for objective in OBJECTIVES}


def test_the_metric_of_both_is_the_mean_of_h_and_t1_of_the_mean_and_of_each_execution():
    plain = figures(0.2, 0.5)
    both = OBJECTIVES["both"].with_metric(plain)
    assert plain.items() <= both.items()
    own = {name: value for name, value in both.items() if name not in plain}
    assert own == pytest.approx(
        {"val_both": 0.35, "val_both_execution_0": 0.35, "val_both_execution_1": 0.35}
    )
    assert OBJECTIVES["both"].with_metric(both) == both
    assert OBJECTIVES["zsl_accuracy"].with_metric(plain) == plain


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=list(OBJECTIVES))
def test_a_trials_value_is_the_mean_of_its_last_epochs(objective):
    assert objective.window == (1 if objective.name == "harmonic_mean" else 3)
    metrics, reported = (0.1, 0.5, 0.3, 0.7), []
    for value in metrics:
        reported.append(objective.with_value(figures(value, value), reported))
    for epoch in range(1, 5):
        expected = statistics.fmean(metrics[max(0, epoch - objective.window) : epoch])
        assert reported[epoch - 1][objective.value] == pytest.approx(expected)
        assert reported[epoch - 1][objective.metric] == pytest.approx(metrics[epoch - 1])


@pytest.mark.parametrize(
    ("curve", "epochs"),
    [
        ([0.1], 1),
        ([0.1, 0.2, 0.3, 0.4], 4),  # still rising: nothing is known of more steps
        ([0.1, 0.2, 0.3, 0.4, 0.3, 0.2], 3),  # as many steps as a fourth epoch are past the peak
        ([0.1, 0.2, 0.4, 0.4, 0.4, 0.4], 3),  # level
        ([0.0, 0.5, 0.6, 0.5, 0.4, 0.3], 2),
    ],
)
def test_a_final_training_is_as_long_as_is_best_between_epochs_and_steps(curve, epochs):
    assert OBJECTIVES["ausuc"].final_epochs(curve, 0.64) == epochs
    published = OBJECTIVES["harmonic_mean"].final_epochs(curve, 0.64)
    assert published == 1 + curve.index(max(curve))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.3, 1))
def test_a_final_training_has_at_most_the_best_epoch_and_at_least_its_steps(curve, share):
    best, epochs = 1 + curve.index(max(curve)), OBJECTIVES["ausuc"].final_epochs(curve, share)
    assert max(1, round(share * best)) <= epochs <= best


@given(st.dictionaries(st.integers(), st.tuples(*[st.integers(0, 6)] * 2), max_size=12))
def test_the_front_is_what_nothing_dominates(points):
    front = pareto_front(points)
    for name, point in points.items():
        better = [
            o for o in points.values() if o != point and o[0] >= point[0] and o[1] >= point[1]
        ]
        assert (name in front) == (not better)
    assert [points[n][0] for n in front] == sorted((points[n][0] for n in front), reverse=True)
    if points:
        chosen = max(points, key=lambda name: statistics.fmean(points[name]))
        assert chosen in front, "the highest mean is never dominated"


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_score_best_epoch_and_executions_are_of_the_objective(recorded, objective):
    study = recorded[1][objective]
    assert study.objective == objective
    metric = OBJECTIVES[objective].metric
    for trial in study.trials:
        epoch, score = BEST[objective][trial.number]
        assert (trial.objective, trial.best_epoch) == (objective, epoch)
        assert trial.score == pytest.approx(score)
        assert trial.metrics[OBJECTIVES[objective].value] == trial.score
        h, t1 = CURVES[trial.number][epoch - 1]
        assert trial.metrics["val_harmonic_mean"] == pytest.approx(h)
        assert trial.metrics["val_zsl_accuracy"] == pytest.approx(t1)
        assert trial.executions == 2
        at_best = statistics.fmean(trial.per_execution.values())
        assert at_best == pytest.approx(trial.metrics[metric])
        assert len(study.curves[trial.number]) == len(CURVES[trial.number])
    chosen = select(study.trials)
    assert chosen.trial.number == max(BEST[objective], key=lambda n: BEST[objective][n][1])
    assert f"{OBJECTIVES[objective].symbol} {100 * chosen.trial.score:.2f}%" in chosen.why


def test_both_record_say_and_show_the_front(recorded):
    uri, studies = recorded
    selection = select(studies["both"].trials)
    assert [t.number for t in selection.front] == [0, 1]
    assert "trial 0 (H 20.00, T1 40.00), trial 1 (H 10.00, T1 60.00)" in selection.why
    assert "Trial 1 is chosen" in selection.why
    client = mlflow.MlflowClient(uri)
    assert client.get_run(studies["both"].run_id).data.tags["pareto_front"] == "0, 1"
    page = document(Subject(studies["both"], "aPY"))
    assert "with the Pareto front" in page
    for objective in ("harmonic_mean", "zsl_accuracy"):
        assert select(studies[objective].trials).front == ()
        assert "pareto_front" not in client.get_run(studies[objective].run_id).data.tags
        assert "Pareto" not in document(Subject(studies[objective], "aPY"))


def test_the_page_calls_a_score_by_its_name(recorded):
    page = document(Subject(recorded[1]["zsl_accuracy"], "aPY"))
    assert "T1 60.0 % in validation" in page
    assert "H (%)" not in page


def test_studies_of_other_objectives_are_left_out_and_that_is_said(recorded):
    trials = read_trials(recorded[0], STUDY.dataset)
    selection = select(trials)
    assert {trial.study for trial in selection.compared} == {"both"}, "the newest"
    assert "Trials with 4 other combinations of protocol, objective" in selection.why
    assert "objective both" in selection.why


def test_an_objective_of_another_version_is_one_clear_line(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    study = record(uri, "harmonic_mean")
    mlflow.MlflowClient(uri).set_tag(study.run_id, OBJECTIVE_TAG, "speed")
    with pytest.raises(InputError, match=r"objective of run .* got 'speed'"):
        read_trials(uri, STUDY.dataset)


def test_fresh_draws_decide_for_both_too_and_make_the_front():
    def confirmed(number, h, t1):
        fresh = Confirmation(
            per_draw={5: (h + t1) / 2, 6: (h + t1) / 2},
            metrics={"val_harmonic_mean": h, "val_zsl_accuracy": t1},
        )
        return a_trial(number=number, run_id=f"r{number}", objective="both", confirmation=fresh)

    never = a_trial(number=9, run_id="r9", objective="both", score=0.9)
    trials = [confirmed(0, 0.3, 0.2), confirmed(1, 0.2, 0.5), confirmed(2, 0.1, 0.4), never]
    selection = select(trials)
    assert selection.trial.number == 1
    assert [t.number for t in selection.front] == [0, 1]


def study(**changes):
    budget = {"trials": 5, "max_epochs": 3, "patience": 2, "executions": 1}
    how = {"seed": 0, "sampler": "tpe", "scheduler": "asha"}
    return Study(**{"name": "s", "space": SPACE, "fixed": {}, **budget, **how, **changes})


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_of_one_objective_is_refused_for_two(sampler):
    if sampler in ABLE:
        assert study(sampler=sampler, objective="both").goal.has_several
        return
    with pytest.raises(
        InputError, match=f"needs a multi-objective sampler .* got --sampler {sampler}"
    ):
        study(sampler=sampler, objective="both")


def history(source, trials):
    """Run a study of both objectives, one trial after another."""
    events, chance = [], random.Random(4)
    for _ in range(trials):
        proposed = source.propose()
        h = 1 / (1 + abs(proposed.configuration["alpha"] - 1))
        metrics = {"val_harmonic_mean": h, "val_zsl_accuracy": chance.random()}
        score = statistics.fmean(metrics.values())
        number = proposed.number
        done = [proposed, EpochDone(number, 1, score, 1, metrics), Ended(number, "finished", "")]
        for event in done:
            source.handle(event)
        events += done
    return events


def proposer(sampler):
    paper = {"alpha": 1000.0, "learning_rate": 1e-4}
    return Proposer(SPACE, sampler=sampler, seed=3, paper=paper, objective=OBJECTIVES["both"])


@pytest.mark.parametrize("sampler", ABLE)
def test_for_both_a_resumed_sampler_proposes_the_same_and_knows_both_values(sampler):
    events = history(proposer(sampler), 12 if sampler == "gp" else 20)
    again = proposer(sampler)
    place = [i for i, event in enumerate(events) if isinstance(event, Proposed)][-1]
    for event in events[:place]:
        again.handle(event)
    assert again.propose() == events[place]
    told = [t.values for t in again._study.get_trials()[:-1]]
    done = [list(e.metrics.values()) for e in events[:place] if isinstance(e, EpochDone)]
    assert told == done


def test_the_worst_of_both_is_told_of_a_divergence():
    source = proposer("random")
    source.handle(source.propose())
    source.handle(Ended(0, "infeasible", ""))
    assert source._study.get_trials()[0].values == [0.0, 0.0]


def test_optuna_has_both_values(tmp_path):
    description = dataclasses.replace(STUDY, objective="both", space=SPACE)
    events = history(proposer("random"), 3)
    events[-1] = Ended(2, "stopped_early", "")
    events = [
        dataclasses.replace(e, metrics={**e.metrics, "val_both_smoothed": e.score})
        if isinstance(e, EpochDone)
        else e
        for e in events
    ]
    with open_log(tmp_path) as log:
        log.begin(Opened(key="k", description=dataclasses.replace(description, space=SPACE)))
        file = OptunaProjection(log, patience=3, run_id="", run_of=lambda number: "run")
        with Projector(log, file):
            for event in events:
                log.append(event)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "optuna.log")))
    shown = optuna.load_study(study_name=STUDY.name, storage=storage)
    assert shown.metric_names == ["best_val_harmonic_mean", "best_val_zsl_accuracy"]
    values = [t.values for t in shown.get_trials()]
    assert values == [
        [e.metrics["val_harmonic_mean"], e.metrics["val_zsl_accuracy"]]
        for e in events
        if isinstance(e, EpochDone)
    ]
    assert {t.state.name for t in shown.get_trials()} == {"COMPLETE"}
    assert {t.number for t in shown.best_trials} == set(pareto_front(dict(enumerate(values))))
