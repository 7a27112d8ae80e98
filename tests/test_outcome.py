"""What a search ends with on a terminal."""

import re
from pathlib import Path

from pages import DATASET, record_everything, record_study

from tuning.analysis.comparison import paired_difference
from tuning.cli.outcome import outcome
from tuning.cli.terminal import COLUMNS
from tuning.tracking.reading import read_study

PAGE = Path("/studies/reported/report.html")


def parts(text):
    """Return label → text, continuation lines joined; and the table."""
    block, _, table = text.partition("\n\n")
    return dict(re.findall(r"^(\w+) +(.*(?:\n +.*)*)", block, re.MULTILINE)), table


def test_it_says_what_was_found_how_much_better_it_is_and_where_all_is(uri):
    _, best = record_everything(uri)
    study = read_study(uri, DATASET, "reported")
    text = outcome(study, DATASET, PAGE, "mianet")
    said, table = parts(text)
    assert list(said) == ["found", "against", "model", "report", "MLflow", "next"]
    assert said["found"].startswith(f"trial {best} of 24, ")
    selected, paper = (study.finals[r].per_seed["zsl_accuracy"] for r in ("selected", "paper"))
    assert paired_difference(selected, paper).in_points in " ".join(said["against"].split())
    assert "calibrated H +0.0 [0.0, 0.0] points, no significant difference" in " ".join(
        said["against"].split()
    )
    assert said["report"] == str(PAGE)
    assert said["MLflow"] == study.links.comparison
    assert f"--model {said['model']} " in said["next"]
    assert table.startswith("paper: trial 0, ")
    assert all(len(line) <= COLUMNS or "http" in line for line in text.splitlines())


def test_without_a_final_training_it_says_where_the_report_is(uri):
    record_study(uri)
    said, table = parts(outcome(read_study(uri, DATASET, "reported"), DATASET, PAGE, "mianet"))
    assert list(said) == ["found", "report", "MLflow"]
    assert table == ""
