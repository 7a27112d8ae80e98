"""What a study left behind: its event log and its record, checked against each other."""

import json
import sqlite3
from pathlib import Path


def events_of(folder, study):
    """Return the lines of a study's event log in the default storage."""
    path = Path(folder) / "ray_results" / study / "events.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().splitlines() if line.endswith(b"}")]


def curves_of(folder, study):
    """Return number → (configuration, curve of all metrics, how it ended)."""
    lines = events_of(folder, study)
    trials = {
        x["number"]: [x["configuration"], [], None] for x in lines if x["event"] == "proposed"
    }
    for line in lines:
        if line["event"] == "epoch":
            trials[line["number"]][1].append(line["metrics"])
        elif line["event"] == "ended":
            trials[line["number"]][2] = (line["status"], line["reason"])
    return trials


def check_whole(folder, study, trials):
    """Check that every trial is in the log and in MLflow once, ended, with the same curve."""
    lines = events_of(folder, study)
    of = lambda event: [line for line in lines if line["event"] == event]  # noqa: E731
    assert [line["number"] for line in of("proposed")] == list(range(trials))
    assert sorted(line["number"] for line in of("ended")) == list(range(trials))
    for number in range(trials):
        epochs = [line["epoch"] for line in of("epoch") if line["number"] == number]
        assert epochs == list(range(1, len(epochs) + 1)), number
    recorded = recorded_trials(folder, study)
    assert sorted(recorded) == list(range(trials))
    for number, (_, curve, end) in curves_of(folder, study).items():
        state, tags, points = recorded[number]
        assert state in ("FINISHED", "FAILED")
        assert tags["status"] == end[0]
        told = [(i, metrics["val_harmonic_mean"]) for i, metrics in enumerate(curve, 1)]
        assert points == told, number
    assert running_in(folder) == 0


def recorded_trials(folder, study):
    """Return number → (status, tags, points of the curve) of each run, straight from SQLite."""
    with sqlite3.connect(Path(folder) / "mlflow.db") as database:
        tags, found = {}, {}
        for run, key, value in database.execute("select run_uuid, key, value from tags"):
            tags.setdefault(run, {})[key] = value
        query = "select run_uuid, status from runs where lifecycle_stage = 'active'"
        for run, status in database.execute(query):
            mine = tags.get(run, {})
            if (mine.get("kind"), mine.get("study")) != ("trial", study):
                continue
            number = int(mine["number"])
            assert number not in found, f"trial {number} has two runs"
            points = database.execute(
                "select step, value from metrics where run_uuid = ? and key = ? order by step",
                (run, "val_harmonic_mean"),
            ).fetchall()
            found[number] = (status, mine, points)
    return found


def running_in(folder):
    """Return how many runs MLflow takes for running."""
    with sqlite3.connect(Path(folder) / "mlflow.db") as database:
        return database.execute("select count(*) from runs where status = 'RUNNING'").fetchone()[0]
