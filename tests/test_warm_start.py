"""What a search takes over from earlier ones, and that every sampler begins with it."""

import dataclasses

import optuna
import pytest
from recorded import STUDY, StudyRecorder, epoch_metrics
from test_searcher import PAPER, SPACE, TRIALS, resumed, score
from test_selection import a_trial

from mianet.config import Hyperparameters
from mianet.errors import InputError
from tuning.engine.samplers import SAMPLERS
from tuning.engine.searcher import Proposer
from tuning.events.event import Ended, EpochDone, Proposed
from tuning.spec.objectives import OBJECTIVES
from tuning.spec.records import Confirmation
from tuning.spec.space import search_space
from tuning.spec.warm_start import MAX_POINTS, EarlierStudy, WarmPoint, warm_points
from tuning.tracking.reading import read_earlier_study

optuna.logging.set_verbosity(optuna.logging.ERROR)

ALPHA = search_space(("alpha",))
H, T1 = OBJECTIVES["harmonic_mean"], OBJECTIVES["zsl_accuracy"]


def tried(number, alpha, h, t1=0.0, fresh=None, **changes):
    settings = Hyperparameters.from_mapping({"alpha": alpha, "latent_multiplier": 3.0})
    values = {name: str(value) for name, value in settings.as_dict().items()}
    met = fresh is not None and Confirmation(
        per_draw={5: fresh}, metrics={"val_harmonic_mean": fresh}
    )
    return a_trial(
        number=number,
        hyperparameters=values,
        score=h,
        metrics={"val_harmonic_mean": h, "val_zsl_accuracy": t1},
        confirmation=met or None,
        **changes,
    )


def earlier(*trials, name="old", **changes):
    values = {"dataset": "awa1", "name": name, "model": "mianet", "searched": ("alpha", "beta")}
    return EarlierStudy(**{**values, **changes}, trials=trials)


def points(*studies, space=ALPHA, objective=H, paper=None):
    return warm_points(
        studies, space, model="mianet", objective=objective, paper=paper or {"alpha": 1000.0}
    )


def alphas(found):
    return [point.configuration["alpha"] for point in found]


def test_those_that_met_fresh_draws_come_first_then_the_best_by_score():
    study = earlier(
        tried(0, 1.0, 0.3), tried(1, 2.0, 0.5), tried(2, 3.0, 0.9, fresh=0.1), tried(3, 4.0, 0.4)
    )
    found = points(study)
    assert alphas(found) == [3.0, 2.0, 4.0, 1.0]
    assert found[1].origin == "awa1/old trial 1"


def test_what_is_maximised_now_decides():
    study = earlier(tried(0, 1.0, 0.3, t1=0.1), tried(1, 2.0, 0.2, t1=0.6))
    assert alphas(points(study)) == [1.0, 2.0]
    assert alphas(points(study, objective=T1)) == [2.0, 1.0]
    assert alphas(points(study, objective=OBJECTIVES["both"])) == [2.0, 1.0]


def test_studies_take_turns_each_configuration_comes_once_and_a_handful_at_most():
    first = earlier(*(tried(n, 1.0 + n, 0.9 - n / 100) for n in range(9)))
    second = earlier(tried(0, 1.0, 0.5), tried(1, 1000.0, 0.4), tried(2, 50.0, 0.3), name="two")
    found = points(first, second)
    assert alphas(found) == [1.0, 2.0, 3.0, 50.0, 4.0]
    assert len(found) == MAX_POINTS
    assert found[3].origin == "awa1/two trial 2"


def test_what_was_not_searched_then_is_as_it_was_then_and_values_have_their_types():
    found = points(earlier(tried(0, 1.0, 0.3)), space=search_space(("alpha", "latent_multiplier")))
    assert found[0].configuration == {"alpha": 1.0, "latent_multiplier": 3.0}


def test_ends_that_were_not_well_and_values_outside_are_left_out():
    narrow = search_space(("alpha",), {"alpha": (0.5, 10.0)})
    study = earlier(
        tried(0, 1.0, 0.3), tried(1, 100.0, 0.9), tried(2, 2.0, 0.8, status="infeasible")
    )
    assert alphas(points(study, space=narrow)) == [1.0]


@pytest.mark.parametrize(
    ("study", "message"),
    [
        (
            earlier(tried(0, 1.0, 0.3), model="eszsl"),
            r"of the model mianet, but awa1/old is of eszsl",
        ),
        (earlier(tried(0, 1.0, 0.3), searched=("beta",)), r"\(alpha\), but awa1/old searched beta"),
        (earlier(), r"of the 0 trials of awa1/old 0 ended well, .* --range"),
        (earlier(tried(0, 1e9, 0.3)), r"of the 1 trials of awa1/old 1 ended well, none"),
    ],
)
def test_a_study_that_gives_nothing_is_one_clear_line(study, message):
    with pytest.raises(InputError, match=message):
        points(study)


WARM = (
    WarmPoint({"alpha": 3.0, "learning_rate": 1e-3, "latent_multiplier": 1.5}, "awa1/old trial 4"),
    WarmPoint({"alpha": 10.0, "learning_rate": 2e-4, "latent_multiplier": 1.0}, "awa1/old trial 7"),
)


def proposer(sampler, warm=WARM, paper_at=0):
    return Proposer(SPACE, sampler=sampler, seed=3, paper=PAPER, paper_at=paper_at, warm=warm)


def history(sampler, warm=WARM):
    source, events = proposer(sampler, warm), []
    for _ in range(TRIALS):
        proposed = source.propose()
        done = EpochDone(proposed.number, 1, score(proposed), 1, {})
        for event in (proposed, done, Ended(proposed.number, "finished", "")):
            source.handle(event)
            events.append(event)
    return events


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_begins_with_it_and_goes_on_alike_after_a_cut(sampler, monkeypatch):
    events = history(sampler)
    proposals = [event for event in events if isinstance(event, Proposed)]
    origins = [event.origin for event in proposals]
    assert origins == ["paper", *(p.origin for p in WARM), *[sampler] * (TRIALS - 3)]
    assert [p.configuration for p in proposals[1:3]] == [p.configuration for p in WARM]
    monkeypatch.setattr("test_searcher.proposer", proposer)
    for number in (1, 2, 3, TRIALS - 1):
        place = events.index(proposals[number])
        assert resumed(sampler, events[:place]).propose() == proposals[number]


@pytest.mark.parametrize(("paper_at", "places"), [(0, (1, 2)), (1, (0, 2)), (8, (0, 1))])
def test_it_comes_first_wherever_the_papers_configuration_is(paper_at, places):
    source = proposer("random", paper_at=paper_at)
    origins = [source.propose().origin for _ in range(10)]
    assert [origins[place] for place in places] == [point.origin for point in WARM]
    assert origins[paper_at] == "paper"
    assert origins.count("random") == 7


@pytest.mark.parametrize("sampler", ["qmc", "random"])
def test_the_same_seed_does_not_propose_the_earlier_study_again(sampler):
    cold = [e for e in history(sampler, warm=()) if isinstance(e, Proposed)]
    best = [WarmPoint(e.configuration, "numbers/cold") for e in cold[3:6]]
    warm = [e for e in history(sampler, warm=best) if isinstance(e, Proposed)]
    assert [e.configuration for e in warm[1:4]] == [point.configuration for point in best]
    again = [
        e.configuration for e in warm[4:] if e.configuration in [c.configuration for c in cold]
    ]
    assert again == []


def test_what_is_left_of_it_comes_also_after_a_proposal_that_was_another():
    changed = Proposed(0, {**PAPER, "alpha": 7.0}, "paper")
    source = proposer("random")
    source.handle(changed)
    assert [source.propose().origin for _ in range(3)] == [*(p.origin for p in WARM), "random"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a store with the study `same` of two data sets, and `own` of one."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('warm')}/mlflow.db"
    for dataset, name in (("numbers", "same"), ("awa1", "same"), ("awa1", "own")):
        description = dataclasses.replace(
            STUDY,
            name=name,
            dataset=dataset,
            settings={"model": "mianet"},
            space=search_space(("alpha",)),
        )
        with StudyRecorder(uri, description) as recorder:
            recorder.trial_started("t", 0, {"alpha": 3.0, "model": "mianet"}, origin="tpe")
            recorder.epoch_finished("t", 1, epoch_metrics(0.3))
            recorder.trial_ended("t", "finished")
    return uri


@pytest.mark.parametrize(
    ("asked", "dataset", "found"),
    [
        ("own", "numbers", "awa1/own"),
        ("same", "numbers", "numbers/same"),
        ("awa1/same", "numbers", "awa1/same"),
    ],
)
def test_a_study_of_any_data_set_is_found(store, asked, dataset, found):
    study = read_earlier_study(store, asked, dataset)
    assert (str(study), study.model, study.searched) == (found, "mianet", ("alpha",))
    (trial,) = study.trials
    assert (trial.score, trial.is_candidate) == (0.3, True)
    assert alphas(points(study)) == [3.0]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("none", "recorded in .*, but none is not"),
        ("numbers/own", "but numbers/own is not"),
        ("same", "a study of several data sets; choose from: awa1/same, numbers/same"),
    ],
)
def test_a_study_that_is_not_there_or_could_be_several_is_one_clear_line(store, asked, message):
    with pytest.raises(InputError, match=message):
        read_earlier_study(store, asked, "apy")
