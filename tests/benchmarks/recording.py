"""What recording costs: ``python tests/benchmarks/recording.py``.

A trial has 40 epochs of 30 figures. The outage is a delivery of everything at once by a later
process, which is what a search that never reached its store leaves behind.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recorded import STUDY, StudyRecorder, epoch_metrics

from tuning.events.log import CURSOR_FILE, LOG_FILE, count_waiting
from tuning.tracking.backlog import deliver_waiting
from tuning.tracking.store import open_store

TRIALS, EPOCHS, EXTRA = 50, 40, 26


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as root:
        uri, folder = f"sqlite:///{root}/mlflow.db", Path(root) / "storage" / "study"
        open_store(uri)
        recorder = StudyRecorder(uri, STUDY, folder)
        waits = []
        for number in range(TRIALS):
            recorder.trial_started(f"t{number}", number, {"alpha": 1.0}, origin="tpe")
            for epoch in range(1, EPOCHS + 1):
                figures = epoch_metrics(0.123456789 / epoch, EXTRA)
                started = time.perf_counter()
                recorder.epoch_finished(f"t{number}", epoch, figures)
                waits.append(1e6 * (time.perf_counter() - started))
            recorder.trial_ended(f"t{number}", "finished")
        recorder.close(deadline_seconds=600)
        waits.sort()
        print(
            f"microseconds an epoch: median {statistics.median(waits):.0f}, "
            f"99% {waits[int(0.99 * len(waits))]:.0f}"
        )
        size = (folder / LOG_FILE).stat().st_size
        print(f"event log: {size / TRIALS / 1000:.0f} kB a trial, {size / 1e6:.1f} MB in all")
        (folder / CURSOR_FILE).unlink()
        other = f"sqlite:///{root}/other.db"
        open_store(other)
        StudyRecorder(other, STUDY).close()  # makes the experiment
        events, started = count_waiting(folder), time.perf_counter()
        list(deliver_waiting(Path(root) / "storage", lambda _: other))
        print(f"{events} events delivered later in {time.perf_counter() - started:.1f} s")
        started = time.perf_counter()
        StudyRecorder(other, STUDY, folder).close()
        print(f"opened and closed to go on in {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
