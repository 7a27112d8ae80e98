"""The table at the end of a search."""

from tuning.analysis.outcome_table import FIGURES, Row, comparison_table

VALIDATION = {
    "unseen_accuracy": 0.1,
    "seen_accuracy": 0.9,
    "harmonic_mean": 0.18,
    "zsl_accuracy": 1.0,
    "ausuc": 0.25,
    "calibrated_harmonic_mean": 0.4,
}
TEST = {f"{k}_mean": v for k, v in VALIDATION.items()} | {f"{k}_sd": 0.0123 for k in VALIDATION}
PAPER = Row("paper", "trial 0, 7 epochs", VALIDATION, TEST)


def test_a_figure_has_a_line_in_percent():
    rows = [PAPER, Row("selected", "trial 12, 40 epochs", {}, {})]
    paper, selected, caption, over, headings, *lines = comparison_table(
        rows, executions=5, seeds=3
    ).splitlines()
    assert paper == "paper: trial 0, 7 epochs"
    assert selected == "selected: trial 12, 40 epochs"
    assert caption == "percent; validation: 5 executions; test: mean ± sd of 3 seeds"
    assert over.split() == ["paper", "selected"]
    assert headings.split() == ["validation", "test"] * 2
    assert [line[: len("calibrated H")].strip() for line in lines] == list(FIGURES.values())
    assert lines[0].split() == ["ts", "10.0", "10.0", "±", "1.2", "-", "-"]
    assert lines[4].split() == ["AUSUC", "25.0", "25.0", "±", "1.2", "-", "-"]
    assert len({len(line) for line in (headings, *lines)}) == 1


def test_fresh_draws_have_a_column_where_there_are_any():
    rows = [PAPER, Row("selected", "trial 12, 40 epochs", VALIDATION, TEST, fresh=(0.1, 0.2))]
    text = comparison_table(rows, executions=5, seeds=3, symbol="AUSUC")
    *_, caption, _, headings, ts, _, _, _, ausuc, _ = text.splitlines()
    assert "fresh: 2 fresh draws" in caption
    assert headings.split() == ["validation", "fresh", "test"] * 2
    assert ts.split() == ["ts", *("10.0", "10.0", "±", "1.2") * 2]
    assert ausuc.split()[:5] == ["AUSUC", "25.0", "-", "25.0", "±"]
    assert " 15.0 ±  7.1 " in ausuc
    assert max(map(len, text.splitlines())) <= 100
