"""Studies to report on, recorded in a real MLflow, and a reader of the page."""

from __future__ import annotations

import dataclasses
import html.parser
import math
import random
import sys
from pathlib import Path

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution
from recorded import FINAL, STUDY, StudyRecorder, epoch_metrics, final_recording
from test_calibration import gaps_of, some_scores

from mianet.calibration import seen_unseen_curve
from tuning import study_report
from tuning.events.event import Closed, SeedDone, TextAdded
from tuning.spec.final_files import CONFUSION_FILE, CURVE_FILE, confusion_text, curves_text
from tuning.spec.records import COMPUTE_SECONDS, mean_and_sd
from tuning.tracking.reading import read_study

DATASET = STUDY.dataset
HOSTILE = "</title><script>alert('x')</script><img src=http://example.org/x>&\"'"
SPACE = {
    "alpha": FloatDistribution(1e-5, 1e4, log=True),
    "beta": FloatDistribution(0.1, 0.9),
    "latent_activation": CategoricalDistribution(["relu", "linear"]),
}
DESCRIPTION = dataclasses.replace(
    STUDY,
    name="reported",
    space=SPACE,
    settings={
        "model": "mianet",
        "sampler": "tpe",
        "cpus_per_trial": 2,
        "gpus_per_trial": 0.5,
    },
)


def values_of(number: int) -> dict[str, object]:
    """Return a trial's hyperparameters."""
    draw = random.Random(number)
    return {
        "model": "mianet",
        "alpha": 10.0 ** draw.uniform(-5, 4),
        "beta": draw.uniform(0.1, 0.9),
        "latent_activation": draw.choice(["relu", "linear"]),
        "strategy": "iterative",
    }


def curve_of(number: int, epochs: int) -> list[float]:
    """Return a trial's mean H by epoch, better for an alpha near 1."""
    best = 0.4 - 0.05 * abs(math.log10(values_of(number)["alpha"]))
    return [best * (1 - 0.5**epoch) for epoch in range(1, epochs + 1)]


def record_study(
    uri: str, *, trials: int = 24, epochs: int = 8, name: str = "reported", hostile: str = ""
) -> str:
    """Record a study of which trials 3, 9, … were stopped early, 5 diverged and 7 failed."""
    description = dataclasses.replace(DESCRIPTION, name=name)
    with StudyRecorder(uri, description, device="cuda") as recorder:
        for number in range(trials):
            status = {5: "infeasible", 7: "failed"}.get(
                number, "stopped_early" if number % 6 == 3 else "finished"
            )
            trial = f"t{number}"
            origin = "paper" if number == 0 else "tpe"
            recorder.trial_started(trial, number, values_of(number), origin=origin)
            if status in ("finished", "stopped_early"):
                length = epochs if status == "finished" else max(1, epochs // 2)
                for epoch, score in enumerate(curve_of(number, length), 1):
                    recorder.epoch_finished(trial, epoch, epoch_metrics(score))
            reason = f"it broke {hostile}" if status in ("failed", "infeasible") else ""
            recorder.trial_ended(trial, status, reason=reason)
    return read_study(uri, DATASET, name).run_id


def record_multipliers(uri: str) -> None:
    """Record 24 trials, better the smaller their multiplier is; the last four diverged."""
    name = "latent_multiplier"
    description = dataclasses.replace(
        DESCRIPTION,
        name="multipliers",
        space={name: FloatDistribution(0.5, 4.0, log=True)},
    )
    with StudyRecorder(uri, description) as recorder:
        for number in range(24):
            value = 0.5 * 8 ** (number / 24)
            hyperparameters = {"model": "mianet", name: value}
            trial = f"t{number}"
            recorder.trial_started(trial, number, hyperparameters, origin="qmc")
            if number < 20:
                recorder.epoch_finished(trial, 1, epoch_metrics(0.4 - number / 100))
            recorder.trial_ended(trial, "finished" if number < 20 else "infeasible", reason="")


def record_confirmations(uri: str, numbers: list[int], name: str = "reported") -> None:
    """Record fresh draws; the first of the numbers does best on them."""
    study = read_study(uri, DATASET, name)
    for place, number in enumerate(numbers):
        trial = study.trials[number]
        description = dataclasses.replace(
            FINAL,
            kind="confirmation",
            role=f"trial {number:03d}",
            study=name,
            study_run_id=study.run_id,
            source_run_id=trial.run_id,
            settings={"cpus": 2, "gpus": 0.5},
        )
        with final_recording(uri, description) as recorder:
            draws = {f"val_harmonic_mean_execution_{k}": 0.3 - place / 50 + k / 100 for k in (2, 3)}
            for value in draws.values():
                recorder.append(SeedDone({"val_harmonic_mean": value}))
            recorder.append(Closed("finished", summary={**draws, COMPUTE_SECONDS: 30.0}))


def record_final(
    uri: str, role: str, number: int, name: str = "reported", hostile: str = "", classes: int = 5
) -> dict[str, float]:
    """Record a final training of a trial; return its figures."""
    study = read_study(uri, DATASET, name)
    description = dataclasses.replace(
        FINAL,
        role=role,
        study=name,
        study_run_id=study.run_id,
        source_run_id=study.trials[number].run_id,
        settings={"cpus": 2, "gpus": 0.5},
    )
    counts = np.random.default_rng(number).integers(0, 9, (classes, classes))
    names = [f"class {c} {hostile}" for c in range(classes)]
    curves = {seed: seen_unseen_curve(gaps_of(some_scores(seed + number))) for seed in range(3)}
    with final_recording(uri, description) as recorder:
        seeds = []
        for curve in curves.values():
            tr, ts = (float(a[0]) for a in curve.at(np.array([0.0])))
            seeds.append(
                {
                    "test_unseen_accuracy": ts,
                    "test_seen_accuracy": tr,
                    "test_harmonic_mean": 2 * tr * ts / (tr + ts) if tr + ts else 0.0,
                    "test_zsl_accuracy": float(curve.unseen_accuracy[-1]),
                    "test_ausuc": curve.area,
                    "test_calibrated_harmonic_mean": 0.3,
                }
            )
            recorder.append(SeedDone(seeds[-1]))
        unseen = [c >= classes - 2 for c in range(classes)]
        recorder.append(TextAdded(CONFUSION_FILE, confusion_text(counts, names, unseen)))
        recorder.append(TextAdded(CURVE_FILE, curves_text(curves)))
        recorder.append(Closed("finished", summary={COMPUTE_SECONDS: 60.0}))
        return mean_and_sd(seeds)


def record_everything(uri: str) -> tuple[dict[str, dict[str, float]], int]:
    """Record a study, a confirmation, and two final trainings.

    Returns:
        The figures of the final trainings by role, and the number of the selected trial.
    """
    record_study(uri)
    best = max((n for n in range(24) if n not in (5, 7)), key=lambda n: curve_of(n, 8)[-1])
    record_confirmations(uri, [best, 0])
    trained = (("paper", 0), ("selected", best))
    return {role: record_final(uri, role, number) for role, number in trained}, best


def written(uri: str, folder: Path, monkeypatch, *options: str) -> Path:
    """Run the command; return the page that it wrote."""
    path = folder / "page.html"
    arguments = ["--dataset", DATASET, "--tracking-uri", uri, "--output", str(path)]
    arguments += ["--storage", str(folder / "storage"), *options]
    monkeypatch.setattr(sys, "argv", ["study_report.py", *arguments])
    assert study_report.main.__wrapped__() == 0
    return path


_VOID = {"meta", "circle", "line", "path", "rect", "image", "polygon", "br"}


class Page(html.parser.HTMLParser):
    """Reads a page: its sections, its text, its elements; fails where they do not nest.

    Attributes:
        sections: Name → text of each section.
        elements: Name and attributes of all elements, in order.
        rows: Cells of all rows of tables, by section.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.sections: dict[str, str] = {}
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.title = self.heading = ""
        self._open: list[str] = []
        self._section = ""
        self.feed(text)
        self.close()
        assert self._open == []

    def count(self, section: str, name: str, class_: str = "") -> int:
        """Return how many elements of a name and a style class a section has."""
        inside, found = False, 0
        for element, attributes in self.elements:
            if element == "section":
                inside = attributes["id"] == section
            if inside and element == name:
                found += not class_ or class_ in attributes.get("class", "").split(" ")
        return found

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in _VOID:
            return
        self._open.append(tag)
        if tag == "section":
            self._section = dict(attrs)["id"]
            self.sections[self._section] = ""
            self.rows[self._section] = []
        if tag == "tr" and self._section:
            self.rows[self._section].append([])
        if tag in ("td", "th") and self._section:
            self.rows[self._section][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag == "section":
            self._section = ""

    def handle_data(self, data):
        if self._open[-1:] == ["title"] and "svg" not in self._open:
            self.title += data
        if "h1" in self._open:
            self.heading += data
        if self._section and self._open[-1] not in ("script", "style"):
            self.sections[self._section] += data
            if {"td", "th"} & set(self._open):
                self.rows[self._section][-1][-1] += data
