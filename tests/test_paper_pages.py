"""A golden page: what a person reads of a tiny data set, from outcomes that are made up."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from worlds import harmonic_mean

from mianet.config import Hyperparameters
from mianet.data.test_parts import TestParts
from mianet.evaluation import Metrics
from mianet.final_training import Measured, draw_new_classes
from tuning.paper.evidence import ARMS, Evidence, PaperSetup
from tuning.paper.experiments import EXPERIMENTS
from tuning.paper.findings import AGREES, CONTRADICTS, UNDECIDED, claims_page, write

GOLDEN = Path(__file__).parent / "golden_paper_page.md"
PAGES = [f"table{k}" for k in (2, 3, 4)] + [f"figure{k}" for k in (4, 5, 6, 7, 8)]
UNSEEN = np.array([4, 5])
SETUP = PaperSetup(
    dataset="apy",
    title="aPY",
    unseen_classes=len(UNSEEN),
    role="paper",
    origin="the paper's configuration",
    settings=Hyperparameters(),
    epochs=2,
    seeds=(0, 1, 2),
)


def outcome(training, arm):
    """A made-up outcome: the later an arm is in the table, the worse, and each seed differs."""
    worse, seed = 0.01 * list(ARMS).index(arm), training.seed
    curve = tuple(
        Metrics(ts, tr, harmonic_mean(tr, ts), t1, ts * tr, harmonic_mean(tr, ts))
        for ts, tr, t1 in (
            (0.20 - worse + 0.01 * seed + 0.02 * epoch, 0.50 - worse, 0.40 - worse + 0.003 * seed)
            for epoch in range(2)
        )
    )
    new = draw_new_classes(UNSEEN, training.new_classes, seed)
    accuracy = {4: 0.45 - worse, 5: 0.35 - worse + 0.006 * seed}
    return Measured(curve, 3, 0.3 - worse + 0.01 * seed, accuracy, new, 0.1, None)


def test_parts():
    random = np.random.default_rng(0)
    return TestParts(
        class_attributes=random.random((6, 3), dtype=np.float32),
        class_names=("cow", "goat", "sofa", "car", "zebra", "bag"),
        seen_classes=np.arange(4),
        unseen_classes=UNSEEN,
        test_seen_features=random.random((4, 5), dtype=np.float32),
        test_seen_labels=np.arange(4),
        test_unseen_features=random.random((2, 5), dtype=np.float32),
        test_unseen_labels=UNSEEN,
    )


test_parts.__test__ = False


@pytest.fixture
def evidence():
    arms = dict.fromkeys(arm for name in PAGES for arm in EXPERIMENTS[name].arms)
    outcomes = {}
    for arm in arms:
        for training in SETUP.trainings([arm]):
            outcomes.setdefault(training, outcome(training, arm))
    return Evidence(SETUP, test_parts(), outcomes)


def test_the_pages_of_a_tiny_data_set_read_as_they_should(evidence, tmp_path):
    found = {}
    for name in PAGES:
        found[name] = EXPERIMENTS[name].find(evidence)
        write(EXPERIMENTS[name], evidence, found[name], tmp_path)
    pages = [(tmp_path / f"{name}.md").read_text() for name in PAGES]
    assert "\n".join([claims_page(found), *pages]) == GOLDEN.read_text()


def verdicts(name, values, noise=0.001):
    """The verdicts on a figure's claims, where all figures of an arm are those given by name."""
    outcomes = {}
    for arm in EXPERIMENTS[name].arms:
        for training in SETUP.trainings([arm]):
            random = np.random.default_rng([list(ARMS).index(arm), training.seed])
            value = values[arm] + random.normal(0, noise)
            new = draw_new_classes(UNSEEN, training.new_classes, training.seed)
            outcomes[training] = Measured(
                curve=(Metrics(*[value] * len(fields(Metrics))),),
                steps=3,
                retrieval=value,
                class_accuracy=dict.fromkeys(UNSEEN.tolist(), value),
                new_classes=new,
                seconds=0.1,
                classifier=None,
            )
    findings = EXPERIMENTS[name].find(Evidence(SETUP, test_parts(), outcomes))
    return {claim.verdict for claim in findings.claims}


PEAKS = [
    ((0.2, 0.3, 0.4, 0.5, 0.4, 0.3, 0.2), 0.001, AGREES),
    ((0.2, 0.3, 0.5, 0.4, 0.4, 0.3, 0.2), 0.001, AGREES),
    ((0.2, 0.3, 0.4, 0.5, 0.4, 0.3, 0.2), 0.3, UNDECIDED),
    ((0.2, 0.3, 0.4, 0.5, 0.4, 0.3, 0.5), 0.001, UNDECIDED),
    ((0.2, 0.3, 0.3, 0.3, 0.3, 0.5, 0.2), 0.001, CONTRADICTS),
    ((0.2, 0.3, 0.3, 0.4, 0.3, 0.41, 0.2), 0.3, UNDECIDED),
]


@pytest.mark.parametrize(("values", "noise", "verdict"), PEAKS)
def test_a_peak_is_judged_by_the_best_multiplier_and_both_ends(values, noise, verdict):
    arms = EXPERIMENTS["figure6"].arms
    assert verdicts("figure6", dict(zip(arms, values, strict=True)), noise) == {verdict}


RISES = [  # with 0, 1 and 2 new classes
    ((0.6, 0.5, 0.4), 0.001, AGREES),
    ((0.6, 0.5, 0.4), 0.3, UNDECIDED),
    ((0.45, 0.5, 0.4), 0.001, UNDECIDED),
    ((0.3, 0.4, 0.5), 0.001, CONTRADICTS),
]


@pytest.mark.parametrize(("values", "noise", "verdict"), RISES)
def test_a_rise_is_monotonic_and_told_from_the_ends(values, noise, verdict):
    arms = EXPERIMENTS["figure8"].arms
    by_arm = {arm: values[SETUP.new_classes(arm)] for arm in arms}
    assert verdicts("figure8", by_arm, noise) == {verdict}
