"""The paper's tables and figures: contracts over the table of experiments, and their parts."""

import json
import math
import tomllib
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from commands import ROOT
from matplotlib.image import imread
from scipy.stats import ttest_1samp

from mianet.config import VARIANTS, Hyperparameters
from mianet.data.image_files import unseen_image_names
from mianet.data.search_data import load_search_data
from mianet.data.test_parts import load_test_parts
from mianet.errors import DivergedError, InputError
from mianet.measurement import measure
from tuning.paper import setup as setups
from tuning.paper.comparison import estimate, paired_difference
from tuning.paper.drawing import evenly_wrapped, readable
from tuning.paper.evidence import ARMS, FIGURES, FULL, Evidence, NothingToShowError, Setup
from tuning.paper.experiments import EXPERIMENTS, chosen
from tuning.paper.findings import write
from tuning.paper.latent_space import similar_pairs
from tuning.paper.published import RESULTS_FILE, published
from tuning.paper.rendering import Table
from tuning.paper.tables import UNKNOWN, table_of, write_combined
from tuning.spec.records import RecordedTrial

SETUP = Setup(
    dataset="digits",
    title="digits",
    role="selected",
    origin="configuration selected by the search (trial 7 of study demo)",
    settings=Hyperparameters(hidden_dim=12, learning_rate=3e-3, alpha=1.0),
    epochs=1,
    seeds=(0, 1),
)


@pytest.fixture(scope="module")
def evidence():
    """Every training of every experiment, the smallest that there can be."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    data, test = load_search_data("digits"), load_test_parts("digits")
    outcomes = {
        one: measure(
            data, test, one.settings, epochs=one.epochs, seed=one.seed, keep_model=one.keep_model
        )
        for one in SETUP.trainings(ARMS)
    }
    torch.set_num_threads(before)
    return Evidence(SETUP, test, outcomes, unseen_image_names("digits"))


def with_diverged(evidence, arm, seeds):
    lost = {SETUP.training(arm, seed): DivergedError("gone") for seed in seeds}
    return replace(evidence, outcomes={**evidence.outcomes, **lost})


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_found_written_and_says_whose_configuration_it_is(
    name, evidence, tmp_path
):
    experiment = EXPERIMENTS[name]
    assert experiment.name == name
    assert set(experiment.arms) <= set(ARMS)
    # It may look at its own trainings only: the command computes it when these have ended.
    own = {one: evidence.outcomes[one] for one in SETUP.trainings(experiment.arms)}
    evidence = replace(evidence, outcomes=own)
    findings = experiment.find(evidence)
    assert all(map(math.isfinite, findings.metrics.values()))
    assert findings.metrics
    assert findings.sentences
    write(experiment, evidence, findings, tmp_path)
    data = pd.read_csv(tmp_path / f"{name}.csv")
    assert len(data) == len(findings.data) > 0
    page = (tmp_path / f"{name}.md").read_text()
    assert experiment.title in page
    assert "selected by the search (trial 7 of study demo); 1 epoch, 2 seeds" in page
    assert (findings.table is None) == (experiment.draw is not None)
    if experiment.draw is None:
        assert "MIANet, this code (selected)" in page
        for ending in ("txt", "tex"):
            assert "MIANet, this code (selected)" in (tmp_path / f"{name}.{ending}").read_text()
    else:
        check_picture(tmp_path / name, experiment.title)


def check_picture(path, title):
    pixels = imread(path.with_suffix(".png"))
    assert min(pixels.shape[:2]) > 300
    colours = (255 * pixels[::3, ::3, :3]).astype(np.int64) @ [1, 256, 65536]
    assert len(np.unique(colours)) > 20
    svg = ET.parse(path.with_suffix(".svg"))  # noqa: S314
    text = " ".join(" ".join(element.itertext()) for element in svg.iter())
    for word in (*title.split()[:3], "selected", "search"):
        assert word in text


def test_a_picture_is_the_same_file_again(evidence, tmp_path):
    experiment = EXPERIMENTS["figure5"]
    findings = experiment.find(evidence)
    for folder in ("a", "b"):
        write(experiment, evidence, findings, tmp_path / folder)
    first, second = (tmp_path / f / "figure5.svg" for f in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_whose_trainings_all_diverged_has_nothing_to_show(name, evidence):
    experiment = EXPERIMENTS[name]
    arm = experiment.arms[-1]
    with pytest.raises(NothingToShowError, match="diverged"):
        experiment.find(with_diverged(evidence, arm, SETUP.seeds))


@pytest.mark.parametrize("name", ["table2", "figure4", "figure6", "figure7", "figure8"])
def test_a_lost_seed_is_left_out_and_said(name, evidence, tmp_path):
    experiment = EXPERIMENTS[name]
    arm = experiment.arms[-1]
    findings = experiment.find(lost := with_diverged(evidence, arm, [1]))
    assert f"1 of 2 seeds of {arm} diverged and are left out." in findings.sentences
    write(experiment, lost, findings, tmp_path)


def test_a_table_has_the_mean_and_the_sample_deviation_of_the_seeds(evidence):
    findings = EXPERIMENTS["table2"].find(evidence)
    seeds = findings.more["seeds"]
    for figure in ("ts", "tr", "H"):
        row = findings.data[findings.data["figure"] == figure].iloc[-1]
        assert row["mean"] == pytest.approx(seeds[figure].mean())
        assert row["sd"] == pytest.approx(seeds[figure].std(ddof=1))
    finals = [evidence.outcomes[SETUP.training("full", s)].curve[-1] for s in (0, 1)]
    expected = np.mean([one.harmonic_mean for one in finals])
    assert findings.metrics["harmonic_mean_mean"] == pytest.approx(expected)


def test_a_heading_is_wrapped_evenly():
    text = (
        "digits; configuration selected by the search (trial 34 of study digits); 3 epochs, 5 seeds"
    )
    assert evenly_wrapped(text, 100) == [text]
    lines = evenly_wrapped(text, 80)
    assert " ".join(lines) == text
    assert len(lines) == 2
    assert max(map(len, lines)) - min(map(len, lines)) < 12
    assert evenly_wrapped("", 80) == []
    assert evenly_wrapped("a" * 90, 80) == ["a" * 45, "a" * 45]


def test_a_class_is_called_as_a_person_writes_it():
    assert [readable(n) for n in ("persian+cat", "Black_footed_Albatross", "7")] == [
        "persian cat",
        "Black footed Albatross",
        "7",
    ]


def test_names_in_place_of_pictures_take_less_room(evidence):
    experiment = EXPERIMENTS["figure11"]
    findings = experiment.find(evidence)
    named = replace(evidence, setup=replace(SETUP, dataset="synthetic:awa1"))
    pictures, names = (experiment.draw(one, findings) for one in (evidence, named))
    assert all(panel.images for panel in pictures.axes)
    assert not any(panel.images for panel in names.axes)
    shown = [panel.texts[0].get_text() for panel in names.axes]
    assert shown == findings.data["image"].tolist()
    assert names.get_figheight() < pictures.get_figheight()


def test_an_ablation_is_paired_by_seed(evidence):
    differences = EXPERIMENTS["figure4"].find(evidence).more["differences"]
    row = differences.set_index(["arm", "figure"]).loc[("self_reconstruction", "tr")]
    full, ablated = (
        [evidence.outcomes[SETUP.training(arm, s)].curve[-1].seen_accuracy for s in (0, 1)]
        for arm in ("full", "self_reconstruction")
    )
    each = 100 * (np.array(full) - np.array(ablated))
    interval = ttest_1samp(each, 0).confidence_interval(0.95)
    assert row["complete_minus_ablated"] == pytest.approx(each.mean())
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))


def test_an_estimate_is_students():
    values = [51.0, 53.5, 49.0, 52.2]
    one = estimate(values)
    interval = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (one.low, one.high) == pytest.approx((interval.low, interval.high))
    assert one.with_sd == "51.4 ± 1.9"
    assert [estimate(v).sign for v in ([3, 3.1], [-3, -3.1], [-1, 1])] == [1, -1, 0]


def test_one_seed_has_no_deviation_and_no_interval():
    one = estimate([51.04])
    assert (one.with_sd, one.with_interval, one.sign) == ("51.0", "+51.0", 0)
    with pytest.raises(ValueError, match="must have a value"):
        estimate([])


def test_only_common_seeds_are_paired():
    difference = paired_difference({0: 5.0, 1: 7.0, 2: 90.0}, {1: 4.0, 0: 4.0, 3: 1.0})
    assert (difference.mean, difference.count) == (2.0, 2)


def test_every_variant_is_an_arm_and_full_is_the_complete_model():
    assert set(VARIANTS) <= set(ARMS)
    defaults = Hyperparameters()
    assert defaults.replace(**ARMS["full"]) == defaults
    for name, changes in VARIANTS.items():
        arm = SETUP.arm(name)
        assert all(getattr(arm, key) == value for key, value in changes.items())


def test_an_equal_training_is_run_once():
    trainings = SETUP.trainings(["full", "multiplier_2", "full"])
    assert [one.seed for one in trainings] == [0, 1]
    assert SETUP.settings.latent_multiplier == 2
    assert [one.keep_model for one in trainings] == [True, False]


def test_experiments_are_chosen_by_name_and_an_unknown_one_is_refused():
    assert [one.name for one in chosen(["figure4", "table2"])] == ["table2", "figure4"]
    assert len(chosen([])) == len(EXPERIMENTS) == 11
    with pytest.raises(InputError, match=r"must be one of table2, .*but got 'figure3'"):
        chosen(["table2", "figure3"])


def test_similar_pairs_are_disjoint_and_the_most_similar_come_first():
    attributes = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.2, 0.9], [0.5, 0.5]])
    assert similar_pairs(attributes, 3) == ((0, 1), (2, 3))


def test_every_published_figure_has_a_source_and_agrees_with_itself():
    content = published()
    misprinted = {
        (m["method"], d) for m in content.misprints if "method" in m for d in m["datasets"]
    }
    for row in content.rows:
        assert row.published_in in content.sources
        assert row.read_from
        assert set(row.read_from) <= set(content.sources)
        for dataset, of in row.results.items():
            assert set(of) <= set(FIGURES.values())
            assert all(value is None or 0 <= value <= 100 for value in of.values())
            ts, tr, h = (of[name] for name in ("ts", "tr", "H"))
            if None not in (ts, tr, h):
                low, high = (
                    2 * a * b / (a + b) if a > 0 else 0.0
                    for a, b in ((ts - 0.05, tr - 0.05), (ts + 0.05, tr + 0.05))
                )
                agrees = low - 0.051 <= h <= high + 0.051
                assert agrees == ((row.method, dataset) not in misprinted), (row.method, dataset)
    assert content.rows[-1].method == "MIANet"
    assert content.rows[-1].results["awa1"]["H"] == 55.4
    assert any("53.4" in text for text in content.misprints_of("awa1"))


def test_the_published_figures_are_installed_with_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "tuning.paper" in settings["packages"]
    (pattern,) = settings["package-data"]["tuning.paper"]
    assert RESULTS_FILE in (ROOT / "tuning" / "paper").glob(pattern)
    assert json.loads(RESULTS_FILE.read_text())["unit"] == "percent"


def test_a_table_shows_published_rows_first_and_marks_misprints_and_gaps():
    rows = [
        ("MIANet", "awa1", "H", 55.4, math.nan, math.nan, "mianet"),
        ("ESZSL", "awa1", "H", 12.1, math.nan, math.nan, "xian2018"),
        ("ESZSL", "sun", "H", 15.8, math.nan, math.nan, "xian2018"),
        ("MIANet, this code (selected)", "awa1", "H", 6.66, 3.21, 2048, None),
    ]
    columns = ["method", "dataset", "figure", "mean", "sd", "feature_dim", "published_in"]
    table = table_of(pd.DataFrame(rows, columns=columns), "Caption")
    assert table.heading == ("method", "SUN H", "AWA1 H")
    assert table.rows == (
        ("MIANet", UNKNOWN, "55.4"),
        ("ESZSL", "15.8", "12.1"),
        ("MIANet, this code (selected)", UNKNOWN, "6.7 ± 3.2"),
    )
    assert any("53.4" in note for note in table.notes)
    assert any(note.startswith("ESZSL: Y. Xian") for note in table.notes)
    assert table.notes[0] == f"{UNKNOWN}: not known here."
    assert not any("other features" in note for note in table.notes)
    assert table.ours == {2}


def test_a_table_says_that_the_features_are_not_the_published_ones_and_no_gap_where_none_is():
    rows = [
        ("ESZSL", "awa1", "T1", 58.2, math.nan, math.nan, "xian2018"),
        ("MIANet, this code (selected)", "awa1", "T1", 29.9, 5.7, 256, None),
    ]
    columns = ["method", "dataset", "figure", "mean", "sd", "feature_dim", "published_in"]
    notes = table_of(pd.DataFrame(rows, columns=columns), "Caption").notes
    assert notes[0].startswith("AWA1: the features here have 256 columns and not 2048")
    assert not any(UNKNOWN in note for note in notes)


def test_a_table_is_rendered_in_every_form():
    table = Table(("method", "A_B ts"), (("x & y", "1.0"), ("ours", "2.0 ± 0.1")), "50%",
                  ("a note",), frozenset({1}))  # fmt: skip
    assert table.text().splitlines()[2:6] == [
        "method     A_B ts",
        "-----------------",
        "x & y         1.0",
        "ours    2.0 ± 0.1",
    ]
    assert "| **ours** | **2.0 ± 0.1** |" in table.markdown()
    latex = table.latex()
    assert r"x \& y & 1.0 \\" in latex
    assert r"ours & 2.0 $\pm$ 0.1 \\" in latex
    assert r"\caption{50\%}" in latex
    assert r"A\_B ts" in latex


def test_the_tables_of_all_data_sets_are_joined(evidence, tmp_path):
    experiment = EXPERIMENTS["table3"]
    for role in ("selected", "paper"):
        of_role = replace(evidence, setup=replace(SETUP, role=role))
        write(experiment, of_role, experiment.find(of_role), tmp_path / f"digits-{role}" / "table3")
    assert write_combined(tmp_path) == [tmp_path / "table3.md"]
    joined = (tmp_path / "table3.md").read_text()
    assert "this code (selected)" in joined
    assert "this code (paper)" in joined


@pytest.fixture
def recorded(monkeypatch):
    """Two recorded trials: the paper's configuration, and a better one."""
    data = load_search_data("digits")

    def trial(number, origin, score, epoch, **changes):
        values = Hyperparameters(**changes).as_dict()
        return RecordedTrial(
            run_id=f"run{number}", study="demo", study_run_id="s", study_started=1, number=number,
            status="finished", origin=origin, score=score, best_epoch=epoch, executions=2,
            hyperparameters={k: str(v) for k, v in values.items()}, planned_executions=2,
            protocol={"executions": 2}, data_digest=data.digest, code_version="x", started=number,
        )  # fmt: skip

    trials = [trial(0, "paper", 0.2, 9), trial(1, "tpe", 0.3, 4, alpha=0.5, strategy="joint")]
    monkeypatch.setattr(setups, "read_trials", lambda *_: trials)
    return data


def wish(role, **changes):
    asked = {"study": None, "epochs": None, "changes": {}, "seeds": 3, **changes}
    return setups.Wish(role=role, tracking_uri="sqlite:///nowhere.db", **asked)


def test_the_selected_configuration_is_read_back_and_the_complete_model_is_trained(recorded):
    setup = setups.resolve(wish("selected"), recorded)
    assert (setup.settings.alpha, setup.epochs, setup.source_run_id) == (0.5, 4, "run1")
    assert setup.seeds == (0, 1, 2)
    assert "selected by the search (trial 1 of study demo) with strategy=iterative" in setup.caption
    assert {name: getattr(setup.settings, name) for name in FULL} == dict(FULL)


def test_the_papers_epochs_are_those_that_validation_found_or_those_asked_for(recorded):
    found = setups.resolve(wish("paper"), recorded)
    assert (found.settings.alpha, found.epochs, found.source_run_id) == (1000, 9, "run0")
    asked = setups.resolve(wish("paper", epochs=2, changes={"hidden_dim": "48"}), recorded)
    assert (asked.epochs, asked.settings.hidden_dim, asked.source_run_id) == (2, 48, "")
    assert "the paper's configuration with hidden_dim=48; 2 epochs, 3 seeds" in asked.caption


def test_the_paper_without_epochs_and_without_a_search_is_refused(recorded, monkeypatch):
    monkeypatch.setattr(setups, "read_trials", lambda *_: [])
    with pytest.raises(InputError, match="must come with --epochs or from a search"):
        setups.resolve(wish("paper"), recorded)
