"""Tables 2, 3 and 4: the published figures against themselves, rows, order, marks, averages."""

import itertools
import math

import pandas as pd
import pytest

from tuning.paper.evidence import FIGURES
from tuning.paper.published import AVERAGE, published
from tuning.paper.tables import LAYOUTS, OURS, UNKNOWN, table_of

DATASETS = ("sun", "cub", "awa1", "awa2", "apy")
BASELINES = {
    "table2": "DAP CONSE CMT LATEM SSE ALE DEVISE SJE ESZSL SYNC SAE GFZSL LAGO PSEUDO KERNEL "
    "TRIPLE VZSL LESAE LESD",
    "table3": "DAP CONSE CMT LATEM SSE ALE DEVISE SJE ESZSL SYNC SAE GFZSL LAGO PSEUDO TRIPLE VZSL "
    "LESD LESAE",
    "table4": "SSE JSLE SynC ISEC MFMR LESD GSDL",
}
FURTHER = {
    "table2": ["IAP", "CMT*", "DEM", "RelationNet"],
    "table3": ["IAP", "DEM", "RelationNet"],
    "table4": [],
}
ROUNDING = 0.051
ALL_ROWS = [
    *((name, row) for name, rows in published()["tables"].items() for row in rows),
    *((row["published_in"], row) for row in published()["other_rows"]),
]


def ours(datasets, figures, role="paper"):
    rows = [
        (f"{OURS} ({role})", dataset, figure, 10.0 + k, 0.5, 2048)
        for (k, dataset), figure in itertools.product(enumerate(datasets), figures)
    ]
    columns = ["method", "dataset", "figure", "mean", "sd", "feature_dim"]
    return pd.DataFrame(rows, columns=columns)


def cells(table):
    """The table as method → column → text."""
    _, *columns = table.heading
    return {row[0]: dict(zip(columns, row[1:], strict=True)) for row in table.rows}


@pytest.mark.parametrize(
    ("where", "row"), ALL_ROWS, ids=lambda one: one if isinstance(one, str) else one["method"]
)
def test_a_row_has_sources_and_agrees_with_itself_unless_it_is_marked(where, row):
    content = published()
    assert {row["published_in"], *row.get("read_from", ())} <= set(content["sources"])
    assert row["published_in"] == "mianet" or row["read_from"]
    marked = {
        (one["dataset"], one["figure"])
        for one in content["misprints"]
        if (one["where"], one["method"]) == (where, row["method"])
    }
    assert wrong_harmonic_means(row) | wrong_averages(row) == marked
    for results in row["results"].values():
        assert set(results) <= set(FIGURES.values())
        assert all(value is None or 0 <= value <= 100 for value in results.values())


def wrong_harmonic_means(row):
    wrong = set()
    for dataset, of in row["results"].items():
        ts, tr, h = (of.get(name) for name in ("ts", "tr", "H"))
        if None not in (ts, tr, h):
            low, high = (harmonic(ts + d, tr + d) if ts else 0.0 for d in (-ROUNDING, ROUNDING))
            if not low - ROUNDING <= h <= high + ROUNDING:
                wrong.add((dataset, "H"))
    return wrong


def harmonic(ts, tr):
    return 2 * ts * tr / (ts + tr)


def wrong_averages(row):
    values = [next(iter(of.values())) for d, of in row["results"].items() if d != AVERAGE]
    ((figure, average),) = row["results"].get(AVERAGE, {"": None}).items()
    if average is None:
        return set()
    return {(AVERAGE, figure)} if abs(sum(values) / len(values) - average) > 2 * ROUNDING else set()


def test_what_the_paper_is_known_to_misprint_is_marked():
    marked = {(m["where"], m["method"], m["dataset"]) for m in published()["misprints"]}
    assert marked >= {
        ("table2", "DAP", "sun"),
        ("table2", "SYNC", "sun"),
        ("table2", "VZSL", "cub"),
        ("table2", "LESAE", "apy"),
        ("table2", "MIANet", "awa2"),
        ("table3", "LESD", AVERAGE),
        ("table3", "MIANet", AVERAGE),
    }


def test_the_papers_bars_are_those_of_its_tables_unless_the_difference_is_marked():
    content = published()
    for name, table in (("figure4", "table2"), ("figure5", "table3")):
        bars, own = content["bars"][name], content["tables"][table][-1]["results"]
        differing = {
            dataset
            for dataset, value in bars["arms"]["full"].items()
            if value != own[dataset][bars["figure"]]
        }
        assert differing == {m["dataset"] for m in content["misprints"] if m["where"] == name}
        assert all(set(arm) == set(DATASETS) for arm in bars["arms"].values())


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_table_has_all_rows_in_the_papers_order_and_ours_last(name):
    roles = [ours(["awa1"], LAYOUTS[name].figures, role) for role in ("paper", "selected")]
    table = table_of(name, pd.concat(roles))
    own = [f"{OURS} (paper)", f"{OURS} (selected)"]
    expected = [*BASELINES[name].split(), *FURTHER[name], "MIANet", *own]
    assert [row[0] for row in table.rows] == expected
    assert table.ours == 2


@pytest.mark.parametrize(("name", "averaged"), [("table2", 0), ("table3", 1), ("table4", 1)])
def test_a_table_is_over_all_data_sets_that_were_reproduced(name, averaged):
    figures = LAYOUTS[name].figures
    table = table_of(name, ours(["apy", "sun", "numbers"], figures))
    titles = ["SUN", "aPY", "numbers", *["average"] * averaged]
    assert table.heading == ("method", *(f"{t} {f}" for t in titles for f in figures))
    of_numbers = {row[f"numbers {figures[0]}"] for row in list(cells(table).values())[:-1]}
    assert of_numbers == {UNKNOWN}


def test_the_average_of_ours_is_shown_once_all_of_the_papers_data_sets_are_there():
    for name, figure, datasets in (
        ("table3", "T1", DATASETS),
        ("table4", "mAP", ("sun", "cub", "awa1", "apy")),
    ):
        for count in (len(datasets) - 1, len(datasets)):
            table = table_of(name, ours([*datasets[:count], "numbers"], [figure]))
            shown = cells(table)[f"{OURS} (paper)"][f"average {figure}"]
            complete = count == len(datasets)
            assert shown == (f"{10 + (count - 1) / 2:.1f}" if complete else UNKNOWN)


def test_differences_from_the_source_and_misprints_are_marked_and_explained():
    table = table_of("table2", ours(["sun", "awa2"], ["ts", "tr", "H"]))
    shown = cells(table)
    assert shown["DAP"]["SUN H"] == "7.5†‡"
    assert shown["SYNC"]["SUN tr"] == "43.4†"
    assert shown["MIANet"]["AWA2 H"] == "53.3‡"
    assert shown["LAGO"]["AWA2 H"] == UNKNOWN
    (differs,) = (note for note in table.notes if note.startswith("†"))
    assert "DAP SUN H 7.2, SYNC SUN ts 7.9, SYNC SUN tr 43.3 (Y. Xian" in differs
    (misprints,) = (note for note in table.notes if note.startswith("‡"))
    assert "SYNC on SUN has H 13.4, but its ts 7.0 and tr 43.4 give 12.1." in misprints
    assert "CUB" not in misprints


def test_a_table_says_where_other_features_make_the_level_incomparable():
    data = ours(["awa1"], ["T1"])
    assert not any("features here" in note for note in table_of("table3", data).notes)
    notes = table_of("table3", data.assign(feature_dim=256)).notes
    assert any(note.startswith("AWA1: the features here have 256 columns") for note in notes)


def test_one_seed_has_no_deviation():
    table = table_of("table3", ours(["awa1"], ["T1"]).assign(sd=math.nan))
    assert cells(table)[f"{OURS} (paper)"]["AWA1 T1"] == "10.0"
