"""The table at the end of a search."""

from test_selection import a_trial

from tuning.analysis.outcome_table import FIGURES, outcome_table
from tuning.spec.records import Confirmation

VALIDATION = {
    "val_unseen_accuracy": 0.1,
    "val_seen_accuracy": 0.9,
    "val_harmonic_mean": 0.18,
    "val_zsl_accuracy": 1.0,
    "val_ausuc": 0.25,
    "val_calibrated_harmonic_mean": 0.4,
}
FIGURE_TESTS = {name.replace("val_", "test_"): value for name, value in VALIDATION.items()}
TEST = {f"{name}_mean": value for name, value in FIGURE_TESTS.items()} | {
    f"{name}_sd": 0.0123 for name in FIGURE_TESTS
}
PAPER = a_trial(number=0, best_epoch=7, final_epochs=5, metrics=VALIDATION), TEST


def test_a_figure_has_a_line_in_percent():
    selected = a_trial(number=12, best_epoch=1, final_epochs=1, metrics={}), {}
    paper, selected, caption, over, headings, *lines = outcome_table(
        {"paper": PAPER, "selected": selected}, seeds=3
    ).splitlines()
    assert paper == "paper: trial 0, 7 epochs in validation, 5 in the final training"
    assert selected == "selected: trial 12, 1 epoch in validation, 1 in the final training"
    assert caption == "percent; validation: 5 executions; test: mean ± sd of 3 seeds"
    assert over.split() == ["paper", "selected"]
    assert headings.split() == ["validation", "test"] * 2
    assert [line[: len("calibrated H")].strip() for line in lines] == list(FIGURES.values())
    assert lines[0].split() == ["ts", "10.0", "10.0", "±", "1.2", "-", "-"]
    assert lines[4].split() == ["AUSUC", "25.0", "25.0", "±", "1.2", "-", "-"]
    assert len({len(line) for line in (headings, *lines)}) == 1


def test_fresh_draws_have_a_column_where_there_are_any():
    fresh = Confirmation(per_draw={5: 0.1, 6: 0.2}, metrics={})
    confirmed = a_trial(objective="ausuc", metrics=VALIDATION, confirmation=fresh)
    text = outcome_table({"paper": PAPER, "selected": (confirmed, TEST)}, seeds=3)
    *_, caption, _, headings, ts, _, _, _, ausuc, _ = text.splitlines()
    assert "fresh: 2 fresh draws" in caption
    assert headings.split() == ["validation", "fresh", "test"] * 2
    assert ts.split() == ["ts", *("10.0", "10.0", "±", "1.2") * 2]
    assert ausuc.split()[:5] == ["AUSUC", "25.0", "-", "25.0", "±"]
    assert " 15.0 ±  7.1 " in ausuc
    assert max(map(len, text.splitlines())) <= 100
