"""The table at the end of a search."""

from tuning.analysis.outcome_table import Row, comparison_table

VALIDATION = {
    "unseen_accuracy": 0.1,
    "seen_accuracy": 0.9,
    "harmonic_mean": 0.18,
    "zsl_accuracy": 1.0,
}
TEST = {f"{k}_mean": v for k, v in VALIDATION.items()} | {f"{k}_sd": 0.0123 for k in VALIDATION}


def test_figures_stand_under_their_headings_in_percent():
    rows = [Row("paper (trial 0)", 7, VALIDATION, TEST), Row("selected (trial 12)", 40, {}, {})]
    caption, over, headings, paper, selected = comparison_table(
        rows, executions=5, seeds=3
    ).splitlines()
    assert "validation (5 executions)" in caption
    assert "test (mean ± sd of 3 seeds)" in caption
    assert over.split() == ["validation", "test"]
    assert headings.split() == ["epochs", "ts", "tr", "H", "T1", "ts", "tr", "H", "T1"]
    assert paper.split()[3:8] == ["7", "10.0", "90.0", "18.0", "100.0"]
    assert paper.endswith("100.0 ±  1.2")
    assert len(paper) == len(selected) == len(headings)
    assert selected.split()[3:] == ["40"] + ["-"] * 8


def test_fresh_draws_have_a_column_where_there_are_any():
    rows = [
        Row("paper (trial 0)", 7, VALIDATION, TEST),
        Row("selected (trial 12)", 40, VALIDATION, TEST, fresh=(0.1, 0.2)),
    ]
    _, over, headings, paper, selected = comparison_table(rows, executions=5, seeds=3).splitlines()
    assert over.split() == ["validation", "2", "fresh", "draws", "test"]
    assert headings.split() == ["epochs", "ts", "tr", "H", "T1", "H", "ts", "tr", "H", "T1"]
    assert paper.split()[8] == "-"
    assert " 15.0 ±  7.1 " in selected
    assert len(paper) == len(selected) == len(headings)
