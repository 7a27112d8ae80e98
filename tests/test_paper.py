"""The paper's tables and figures: contracts over the table of experiments, and their parts."""

import argparse
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
from mianet.data.search_data import load_search_data
from mianet.data.test_parts import load_test_parts, unseen_image_names
from mianet.errors import DivergedError, InputError
from mianet.final_training import measure
from tuning.paper import setup as setups
from tuning.paper.drawing import readable
from tuning.paper.evidence import ARMS, FULL, Evidence, NothingToShowError, PaperSetup
from tuning.paper.experiments import EXPERIMENTS, select_experiments
from tuning.paper.findings import Table, write
from tuning.paper.latent_space import DRAWN_PAIRS, paper_pairs, similar_pairs
from tuning.paper.published import FOLDER, published
from tuning.paper.tables import write_combined
from tuning.spec.records import RecordedTrial

SETUP = PaperSetup(
    dataset="numbers",
    title="numbers",
    unseen_classes=20,
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
    data, test = load_search_data("numbers"), load_test_parts("numbers")
    outcomes = {
        one: measure(
            data,
            test,
            one.settings,
            epochs=one.epochs,
            seed=one.seed,
            keep_model=one.keep_model,
            new_classes=one.new_classes,
        )
        for one in SETUP.trainings(ARMS)
    }
    torch.set_num_threads(before)
    return Evidence(SETUP, test, outcomes, unseen_image_names("numbers"))


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
    assert findings.text or findings.table
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
    seeds = findings.extra["seeds"]
    for figure in ("ts", "tr", "H"):
        row = findings.data[findings.data["figure"] == figure].iloc[-1]
        assert row["mean"] == pytest.approx(seeds[figure].mean())
        assert row["sd"] == pytest.approx(seeds[figure].std(ddof=1))
    finals = [evidence.outcomes[SETUP.training("full", s)].curve[-1] for s in (0, 1)]
    expected = np.mean([one.harmonic_mean for one in finals])
    assert findings.metrics["harmonic_mean_mean"] == pytest.approx(expected)


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
    differences = EXPERIMENTS["figure4"].find(evidence).extra["differences"]
    row = differences.set_index(["arm", "figure"]).loc[("self_reconstruction", "tr")]
    full, ablated = (
        [evidence.outcomes[SETUP.training(arm, s)].curve[-1].seen_accuracy for s in (0, 1)]
        for arm in ("full", "self_reconstruction")
    )
    each = 100 * (np.array(full) - np.array(ablated))
    interval = ttest_1samp(each, 0).confidence_interval(0.95)
    assert row["complete_minus_ablated"] == pytest.approx(each.mean())
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))


def test_every_variant_is_an_arm_and_full_is_the_complete_model():
    assert set(VARIANTS) <= set(ARMS)
    defaults = Hyperparameters()
    assert defaults.replace(**ARMS["full"]) == defaults
    for name, changes in VARIANTS.items():
        arm = SETUP.training(name, 0).settings
        assert all(getattr(arm, key) == value for key, value in changes.items())


def test_an_equal_training_is_run_once():
    trainings = SETUP.trainings(["full", "multiplier_2", "full"])
    assert [one.seed for one in trainings] == [0, 1]
    assert SETUP.settings.latent_multiplier == 2
    assert [one.keep_model for one in trainings] == [True, False]


def test_experiments_are_chosen_by_name_and_an_unknown_one_is_refused():
    assert [one.name for one in select_experiments(["figure4", "table2"])] == ["table2", "figure4"]
    assert len(select_experiments([])) == len(EXPERIMENTS) == 11
    with pytest.raises(InputError, match=r"must name some of table2, .*but got 'figure3'"):
        select_experiments(["table2", "figure3"])


def test_similar_pairs_are_disjoint_and_the_most_similar_come_first():
    attributes = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.2, 0.9], [0.5, 0.5]])
    assert similar_pairs(attributes, 3) == ((0, 1), (2, 3))


def test_pairs_that_are_given_come_first_and_their_classes_are_taken():
    attributes = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.2, 0.9], [0.5, 0.5], [0.6, 0.5]])
    assert similar_pairs(attributes, 3, [(0, 2)]) == ((0, 2), (4, 5), (1, 3))


def test_the_papers_pairs_are_those_of_its_attributes(shared_data_dir):
    """Of the three pairs that the paper has above 0.78, one is below it in the published data."""
    test = load_test_parts("awa1", shared_data_dir)
    rows = test.class_attributes
    cosines = [float(rows[a] @ rows[b]) for a, b in paper_pairs("figure9", test.class_names)]
    assert cosines == pytest.approx([0.748, 0.791, 0.838], abs=5e-4)
    named = paper_pairs("figure10", test.class_names)
    assert len(named) == 2
    drawn = [c for pair in similar_pairs(rows, DRAWN_PAIRS, named) for c in pair]
    # The paper says so: eight seen classes and two unseen ones.
    assert (len(set(drawn)), int(np.isin(drawn, test.unseen_classes).sum())) == (10, 2)


def test_pairs_of_classes_that_a_data_set_lacks_are_left_out():
    assert paper_pairs("figure9", ("seal", "hamster", "walrus")) == ((2, 0),)
    assert paper_pairs("figure9", ("0", "1")) == ()


def test_figure_8_has_every_number_of_new_classes_and_the_same_classes_known(evidence):
    data = EXPERIMENTS["figure8"].find(evidence).data
    assert sorted(zip(data["new_classes"], data["seed"], strict=True)) == [
        (count, seed) for count in range(0, 21, 4) for seed in (0, 1)
    ]
    full = [evidence.outcomes[SETUP.training("full", seed)] for seed in (0, 1)]
    none_new = data[data["new_classes"] == 0]
    assert none_new["new"].tolist() == pytest.approx(
        [100 * f.figures["zsl_accuracy"] for f in full]
    )
    some_new = data[data["new_classes"] == 12].set_index("seed")
    for seed in (0, 1):
        outcome = evidence.outcomes[SETUP.training("new_60", seed)]
        new = list(outcome.new_classes)
        assert len(new) == 12
        for column, one in (("new", outcome), ("same_but_known", full[seed])):
            expected = 100 * np.mean([one.class_accuracy[c] for c in new])
            assert some_new[column][seed] == pytest.approx(expected)


def test_figure_11_asks_for_the_papers_classes_on_its_data_set_and_for_all_elsewhere(evidence):
    find = EXPERIMENTS["figure11"].find
    assert list(dict.fromkeys(find(evidence).data["query"])) == [
        evidence.test.class_names[c] for c in evidence.test.unseen_classes
    ]
    asked = tuple(published()["queries"]["awa2"])
    names = (*asked, *map(str, range(95)))
    awa2 = replace(
        evidence,
        setup=replace(SETUP, dataset="awa2"),
        test=replace(evidence.test, class_names=names),
    )
    assert tuple(dict.fromkeys(find(awa2).data["query"])) == asked


def test_the_papers_bars_are_drawn_where_it_has_numbers(evidence):
    def heights(name, dataset):
        here = replace(evidence, setup=replace(SETUP, dataset=dataset))
        experiment = EXPERIMENTS[name]
        panels = experiment.draw(here, experiment.find(here)).axes
        return [[p.get_height() for p in panel.patches if p.get_hatch()] for panel in panels]

    assert heights("figure4", "awa1") == [[], [53.4, 51.2], [53.4, 45.8]]
    assert heights("figure5", "sun") == [[], [57.9, 56.3], [57.9, 56.5]]
    assert heights("figure4", "numbers") == [[], [], []]


def test_the_published_figures_are_installed_with_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    (pattern,) = settings["package-data"]["tuning.paper"]
    installed = {path.name for path in (ROOT / "tuning" / "paper").glob(pattern)}
    assert installed == {path.name for path in FOLDER.iterdir()} == {"results.json", "figures.json"}
    for name in installed:
        assert json.loads((FOLDER / name).read_text())["unit"] == "percent"


def test_a_table_is_rendered_in_every_form():
    table = Table(("method", "A_B ts"), (("x & y", "1.0"), ("ours", "2.0 ± 0.1")), "50%",
                  ("a note",), ours=1)  # fmt: skip
    assert table.text().splitlines()[2:5] == [
        "method     A_B ts",
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
        write(
            experiment, of_role, experiment.find(of_role), tmp_path / f"numbers-{role}" / "table3"
        )
    assert write_combined(tmp_path) == [tmp_path / "table3.md"]
    joined = (tmp_path / "table3.md").read_text()
    assert "this code (selected)" in joined
    assert "this code (paper)" in joined


@pytest.fixture
def recorded(monkeypatch):
    """Two recorded trials: the paper's configuration, and a better one."""
    data = load_search_data("numbers")

    def trial(number, origin, score, epoch, **changes):
        values = Hyperparameters(**changes).as_dict()
        return RecordedTrial(
            run_id=f"run{number}", study="demo", study_run_id="s", study_started=1, number=number,
            status="finished", origin=origin, score=score, best_epoch=epoch + 3,
            final_epochs=epoch, executions=2, planned_executions=2,
            hyperparameters={k: str(v) for k, v in values.items()},
            protocol={"executions": 2}, data_digest=data.digest, started=number,
        )  # fmt: skip

    trials = [trial(0, "paper", 0.2, 9), trial(1, "tpe", 0.3, 4, alpha=0.5, strategy="joint")]
    monkeypatch.setattr(setups, "read_trials", lambda *_: trials)
    return data


def resolved(data, role, **changes):
    asked = {"study": None, "epochs": None, "set": [], "seeds": 3, "config": role, **changes}
    return setups.resolve_setup(
        argparse.Namespace(**asked), "sqlite:///nowhere.db", data, "here", 2
    )


def test_the_selected_configuration_is_read_back_and_the_complete_model_is_trained(recorded):
    setup = resolved(recorded, "selected")
    assert (setup.settings.alpha, setup.epochs, setup.source_run_id) == (0.5, 4, "run1")
    assert setup.seeds == (0, 1, 2)
    assert "selected by the search (trial 1 of study demo) with strategy=iterative" in setup.caption
    assert {name: getattr(setup.settings, name) for name in FULL} == dict(FULL)


def test_the_papers_epochs_are_those_that_validation_found_or_those_asked_for(recorded):
    found = resolved(recorded, "paper")
    assert (found.settings.alpha, found.epochs, found.source_run_id) == (1000, 9, "run0")
    asked = resolved(recorded, "paper", epochs=2, set=[("hidden_dim", "48")])
    assert (asked.epochs, asked.settings.hidden_dim, asked.source_run_id) == (2, 48, "")
    assert "the paper's configuration with hidden_dim=48; 2 epochs, 3 seeds" in asked.caption


def test_the_paper_without_epochs_and_without_a_search_is_refused(recorded, monkeypatch):
    monkeypatch.setattr(setups, "read_trials", lambda *_: [])
    with pytest.raises(InputError, match="must have --epochs or a recorded"):
        resolved(recorded, "paper")
