"""The report of a study: every section, the figures that are recorded, and nothing from afar."""

import csv
import dataclasses
import io
import re
import statistics
import sys
import time

import mlflow
import pytest
from pages import (
    DATASET,
    DESCRIPTION,
    HOSTILE,
    SPACE,
    Page,
    curve_of,
    record_final,
    record_multipliers,
    record_study,
    values_of,
    written,
)
from recorded import StudyRecorder, epoch_metrics

from mianet.errors import InputError
from tuning import study_report
from tuning.analysis.insights import sentences
from tuning.analysis.outcome_table import FIGURES
from tuning.events.projector import Projector
from tuning.report.charts import Scale
from tuning.report.page import document
from tuning.report.subject import Subject, number_words
from tuning.spec.space import describe
from tuning.tracking.reading import read_study

SECTIONS = [
    *("configuration", "results", "insights", "history", "parallel", "slices", "importances"),
    *("curves", "confusion", "bias", "cost", "trials"),
]
PICTURES = {"history": 1, "parallel": 1, "slices": 3, "importances": 1, "curves": 1}
FINAL_PICTURES = {"confusion": 1, "bias": 1}


def page_of(reported):
    return Page(reported[1].read_text(encoding="utf-8"))


def test_every_section_is_there_with_its_picture(reported):
    page = page_of(reported)
    assert list(page.sections) == SECTIONS
    anchors = [a["href"] for name, a in page.elements if name == "a"]
    assert anchors == [f"#{name}" for name in SECTIONS]
    for name, count in (PICTURES | FINAL_PICTURES).items():
        assert page.count(name, "svg") - page.count(name, "li") >= count, name
        assert page.count(name, "title") == count, name


def test_nothing_is_fetched_from_anywhere(reported):
    text = reported[1].read_text(encoding="utf-8")
    page = Page(text)
    for name, attributes in page.elements:
        assert name not in ("link", "iframe", "object", "embed", "base", "form")
        for attribute in ("src", "href", "srcset", "action", "poster", "xlink:href"):
            assert attributes.get(attribute, "#").startswith(("#", "data:")), (name, attributes)
        assert not any(attribute.startswith("on") for attribute in attributes)
        assert "url(" not in attributes.get("style", "")
    assert not re.search(r"@import|url\(|https?://", text)
    policies = [a["content"] for n, a in page.elements if a.get("http-equiv")]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none';")


def test_the_figures_are_those_recorded(reported):
    uri, _, figures, best = reported
    page = page_of(reported)
    results = results_of(page)
    for role, row in (("paper", "paper’s, trial 0"), ("selected", f"selected, trial {best}")):
        told = results[row]["test, 3 seeds, 8 epochs"]
        for text, name in zip(told, FIGURES, strict=True):
            mean, deviation = (100 * figures[role][f"test_{name}_{k}"] for k in ("mean", "sd"))
            assert text == f"{mean:.1f} ± {deviation:.1f}"
        assert told[2] in page.heading
    trial = read_study(uri, DATASET).trials[best]
    told = results[f"selected, trial {best}"]
    assert told["validation, 2 draws, 8 epochs"][2] == f"{100 * trial.score:.1f}"
    fresh = list(trial.confirmation.per_draw.values())
    error = statistics.stdev(fresh) / len(fresh) ** 0.5
    assert told["2 fresh draws"][2] == f"{100 * statistics.fmean(fresh):.1f} ± {100 * error:.1f}"
    assert f"Trial {best} of 24 is selected" in page.heading
    assert f"Trial {best} of study reported is the best of 2" in page.sections["configuration"]


def results_of(page):
    """Return configuration → stage → figures."""
    groups, name = {}, ""
    for first, *rest in page.rows["results"][1:]:
        if rest:
            groups[name][first] = rest
        else:
            name = first
            groups[name] = {}
    return groups


def test_the_selected_configuration_is_beside_the_papers(reported):
    best = reported[3]
    rows = {row[0]: row for row in page_of(reported).rows["configuration"]}
    for name in SPACE:
        selected, paper = values_of(best)[name], values_of(0)[name]
        assert rows[name][1:] == [
            number_words(selected),
            number_words(paper),
            describe(SPACE[name]),
        ]
    assert rows["epochs"][1:3] == ["8", "8"]
    assert rows["strategy"][1:3] == ["iterative", "iterative"]


def test_each_trial_is_in_every_picture_and_in_the_table(reported):
    page = page_of(reported)
    well = 22  # one diverged, one failed
    assert page.count("history", "circle", "dot") - 4 == well  # the legend has four
    assert page.count("history", "path", "lost") - 1 == 2
    assert page.count("parallel", "path", "line") == well
    assert page.count("slices", "circle", "dot") == 3 * well
    assert page.count("curves", "path", "line") - 3 == well
    assert page.count("curves", "circle", "end") - 1 == 4  # 3, 9, 15 and 21 were stopped early
    rows = [row for row in page.rows["trials"] if row[0].split(" ")[0].isdigit()]
    listed = {row[0]: row for row in rows[:24]}
    assert list(listed) == ["0 (paper)", *map(str, range(1, 24))]
    assert listed["4"][1] == f"{100 * curve_of(4, 8)[-1]:.2f}"
    assert listed["9"][3:6] == ["4", "4", "stopped early"]
    assert listed["5"][5] == "infeasible"
    assert "it broke" in page.sections["trials"]


def test_importances_say_what_mattered_and_how_it_was_found(reported):
    section = page_of(reported).sections["importances"]
    assert "fANOVA" in section
    assert "22 successful" in section
    assert re.search(r"alpha|beta|latent_activation", section)[0] == "alpha"


def test_what_the_trials_tell_is_said(reported):
    """The same sentences as at a search's end, though the space is read back from the record."""
    page = page_of(reported)
    trials = read_study(reported[0], DATASET).trials
    told = sentences(trials, SPACE, trials[reported[3]])
    assert told[0].startswith("22 trials ")
    for words in told:
        assert words in page.sections["insights"]
    assert page.count("insights", "li") == len(told)
    assert page.rows["insights"] == []


def test_trials_at_an_edge_and_diverged_ones_are_said_with_the_scores_by_multiplier(uri):
    """Of 24 trials four diverge, where the multiplier is high; the best lies at its lower end."""
    record_multipliers(uri)
    page = Page(document(Subject(read_study(uri, DATASET), "aPY")))
    section = page.sections["insights"]
    assert "4 of 24 trials diverged, mostly where latent_multiplier is high;" in section
    assert "latent_multiplier of trial 0, 0.5, is at the lower end of its range" in section
    heading, *rows = page.rows["insights"]
    assert heading == ["latent_multiplier", "trials", "best H", "median H"]
    lows = [row[0].split(" ")[0] for row in rows]
    assert lows == ["0.50", "0.71", "1.00", "1.41", "2.00", "2.83"]
    assert sum(int(row[1]) for row in rows) == 20
    assert rows[0][2] == "40.0"
    assert rows[-1][1:] == ["0", "–", "–"]
    assert "H by latent_multiplier of 20 trials, with means of its parts" in section
    assert page.count("insights", "circle", "dot") - 4 == 20  # the legend names every kind of dot
    for kind in ("ran all its epochs", "stopped early", "the paper’s", "selected"):
        assert kind in section


def test_the_cost_is_that_of_all_that_was_computed(reported):
    rows = {row[0]: row for row in page_of(reported).rows["cost"]}
    study = read_study(reported[0], DATASET)
    searched = sum(trial.seconds for trial in study.trials) / 3600
    confirmed, final = 2 * 30 / 3600, 2 * 60 / 3600
    for name, runs, hours in (
        ("search", 24, searched),
        ("confirmation", 2, confirmed),
        ("final training", 2, final),
        ("total", 28, searched + confirmed + final),
    ):
        assert rows[name][1] == str(runs)
        assert float(rows[name][2]) == pytest.approx(hours, abs=6e-4)
        assert float(rows[name][3]) == pytest.approx(hours / 2, abs=6e-4), "half a GPU each"
    assert rows[""][3] == "GPU hours"


def test_the_page_and_its_data_are_artifacts_of_the_studys_run(reported, tmp_path):
    uri, path, _, best = reported
    client = mlflow.MlflowClient(uri)
    run = read_study(uri, DATASET).run_id
    folder = client.download_artifacts(run, "report", str(tmp_path))
    files = {file.path for file in client.list_artifacts(run, "report")}
    names = ("report.html", "trials.csv", "learning_curves.csv", "importances.csv", "cost.csv")
    assert files == {f"report/{name}" for name in names}
    assert (tmp_path / "report" / "report.html").read_bytes() == path.read_bytes()

    def rows(name):
        with open(f"{folder}/{name}", newline="") as file:
            return list(csv.DictReader(file))

    trials = rows("trials.csv")
    assert [int(row["trial"]) for row in trials if row["selected"] == "1"] == [best]
    assert float(trials[4]["alpha"]) == values_of(4)["alpha"]
    points = [
        float(r["val_harmonic_mean"]) for r in rows("learning_curves.csv") if r["trial"] == "4"
    ]
    assert points == curve_of(4, 8)
    assert {row["hyperparameter"] for row in rows("importances.csv")} == set(SPACE)


def test_hostile_names_stay_text(uri, tmp_path, monkeypatch):
    record_study(uri, trials=12, name=HOSTILE, hostile=HOSTILE)
    record_final(uri, "selected", 4, name=HOSTILE, hostile=HOSTILE)
    best = Subject(read_study(uri, DATASET, HOSTILE), "aPY").selected.number
    record_final(uri, "selected", best, name=HOSTILE, hostile=HOSTILE)
    text = written(uri, tmp_path, monkeypatch).read_text(encoding="utf-8")
    page = Page(text)
    assert [name for name, _ in page.elements].count("script") == 1
    assert not [attributes for name, attributes in page.elements if name == "img"]
    assert text.count("<script") == text.count("</script") == 1
    assert HOSTILE in page.title
    assert HOSTILE in page.sections["trials"]
    assert HOSTILE in page.sections["confusion"]
    assert [p.name for p in (tmp_path / "storage").glob("*")] == []


def test_a_hostile_name_stays_in_the_storage(uri, tmp_path, monkeypatch, capsys):
    record_study(uri, trials=1, name="../../outside")
    arguments = ["--dataset", DATASET, "--tracking-uri", uri, "--storage", str(tmp_path / "a")]
    monkeypatch.setattr(sys, "argv", ["study_report.py", *arguments])
    assert study_report.main.__wrapped__() == 0
    assert (tmp_path / "a" / "outside" / "report.html").is_file()
    assert str(tmp_path / "a" / "outside" / "report.html") in capsys.readouterr().out


SMALL = [
    pytest.param({"trials": 24}, SECTIONS[:8], id="no confirmation, no final training"),
    pytest.param({"trials": 1}, ["history", "curves"], id="one trial"),
    pytest.param({"trials": 12, "epochs": 1}, ["history", "parallel", "slices"], id="closed form"),
]


@pytest.mark.parametrize(("study", "pictured"), SMALL)
def test_what_there_is_is_shown_and_the_rest_says_why(uri, study, pictured):
    record_study(uri, **study)
    page = Page(document(Subject(read_study(uri, DATASET), "aPY")))
    assert list(page.sections) == SECTIONS
    for name in (*PICTURES, *FINAL_PICTURES):
        assert (page.count(name, "svg") > 0) == (name in pictured), name
        assert len(page.sections[name]) > 40, name
    assert "had no final training" in page.sections["confusion"]
    assert "is selected" in page.heading
    assert "1 epochs" not in page.sections["results"]


def test_where_no_trial_ended_well_the_page_says_so(uri):
    with StudyRecorder(uri, DESCRIPTION) as recorder:
        for number, status in enumerate(("infeasible", "failed", "interrupted")):
            recorder.trial_started(f"t{number}", number, values_of(number), origin="tpe")
            recorder.trial_ended(f"t{number}", status, reason="a loss is not finite")
    page = Page(document(Subject(read_study(uri, DATASET), "aPY")))
    assert "No configuration was selected" in page.heading
    assert "1 failed, 1 infeasible, 1 interrupted" in page.sections["configuration"]
    assert page.count("history", "path", "lost") - 1 == 3
    assert "a loss is not finite" in page.sections["trials"]


def test_a_study_that_has_just_begun_and_one_that_still_runs(uri, monkeypatch):
    with monkeypatch.context() as held:
        held.setattr(Projector, "start", lambda self: None)
        recorder = StudyRecorder(uri, DESCRIPTION)  # its run is there; its settings are not yet
    page = Page(document(Subject(read_study(uri, DATASET), "aPY")))
    assert list(page.sections) == SECTIONS
    recorder.recording._projector.start()
    recorder.trial_started("t0", 0, values_of(0), origin="paper")
    recorder.epoch_finished("t0", 1, epoch_metrics(0.1))
    time.sleep(0.1)
    recorder.close("interrupted")
    page = Page(document(Subject(read_study(uri, DATASET), "aPY")))
    assert "interrupted" in page.sections["trials"]


@pytest.mark.parametrize("classes", [2, 12, 13, 60, 61, 200])
def test_a_confusion_of_any_number_of_classes_is_drawn(uri, classes):
    record_study(uri, trials=2)
    best = Subject(read_study(uri, DATASET), "aPY").selected.number
    record_final(uri, "selected", best, classes=classes)
    text = document(Subject(read_study(uri, DATASET), "aPY"))
    page = Page(text)
    assert (page.count("confusion", "image") == 1) == (classes > 60)
    assert (page.count("confusion", "rect", "cell") > 0) == (classes <= 60)
    assert len(text) < 1_500_000


def test_the_newest_study_is_reported_unless_another_is_named(uri, tmp_path, monkeypatch):
    record_study(uri, trials=1, name="older")
    time.sleep(0.01)
    record_study(uri, trials=1, name="newer")
    newer = Page(written(uri, tmp_path, monkeypatch).read_text())
    assert newer.title.startswith("newer:")
    older = Page(written(uri, tmp_path, monkeypatch, "--study", "older").read_text())
    assert older.title.startswith("older:")


def test_what_cannot_be_reported_is_one_clear_error(uri, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="run a search first"):
        written(uri, tmp_path, monkeypatch)
    record_study(uri, trials=1)
    with pytest.raises(InputError, match="the study must be one of those recorded"):
        written(uri, tmp_path, monkeypatch, "--study", "nosuch")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--output must be a writable folder"):
        written(uri, tmp_path, monkeypatch, "--output", str(tmp_path / "file" / "page.html"))


def test_the_same_record_gives_the_same_page(reported):
    again = document(Subject(read_study(reported[0], DATASET), "aPY (synthetic)"))
    assert Page(again).sections == page_of(reported).sections


@pytest.mark.slow  # to record them takes a minute
def test_five_hundred_trials_take_seconds_and_little_room(uri):
    record_study(uri, trials=500, epochs=40)
    started = time.process_time()
    text = document(Subject(read_study(uri, DATASET), "aPY"))
    assert time.process_time() - started < 30
    assert len(text.encode()) < 3_000_000
    assert Page(text).count("history", "circle", "dot") > 490


def test_a_final_training_without_files_is_said_to_have_diverged(uri):
    record_study(uri, trials=3)
    study = read_study(uri, DATASET)
    finals = {}
    for role, number in (("paper", 0), ("selected", Subject(study, "aPY").selected.number)):
        finals[role] = record_final(uri, role, number)
    study = read_study(uri, DATASET)
    bare = {
        role: dataclasses.replace(final, confusion=None, curves={})
        for role, final in study.finals.items()
    }
    page = Page(document(Subject(dataclasses.replace(study, finals=bare), "aPY")))
    assert "diverged" in page.sections["confusion"]
    assert "diverged" in page.sections["bias"]
    assert "±" in " ".join(page.rows["results"][-1])


TICKS = [
    pytest.param(Scale(0.19, 0.41), ["0.2", "0.25", "0.3", "0.35", "0.4"], id="linear"),
    pytest.param(Scale(1e-5, 1e4, log=True), ["10⁻⁴", "0.01", "1", "100", "10000"], id="decades"),
    pytest.param(Scale(0.5, 4.0, log=True), ["0.5", "1", "2"], id="less than two decades"),
    pytest.param(Scale(choices=("relu", "linear")), ["relu", "linear"], id="choices"),
    pytest.param(Scale(3.0, 3.0), ["3"], id="one value"),
]


@pytest.mark.parametrize(("scale", "names"), TICKS)
def test_an_axis_names_round_values_at_their_places(scale, names):
    ticks = scale.ticks(5)
    assert [name for _, name in ticks] == names
    places = [place for place, _ in ticks]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)


def test_a_table_can_be_read_back(reported):
    """The data files are CSV that any reader takes."""
    study = read_study(reported[0], DATASET)
    from tuning.report.data import picture_data

    for text in picture_data(Subject(study, "aPY")).values():
        rows = list(csv.reader(io.StringIO(text)))
        assert len({len(row) for row in rows}) == 1
        assert len(rows) > 1
