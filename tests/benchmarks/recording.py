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

from recorded import STUDY, epoch_metrics

from tuning.events.journal import JOURNAL_FOLDER, RECORDS_FILE, undelivered_in
from tuning.tracking.recording import StudyRecorder, deliver_waiting
from tuning.tracking.store import open_store

TRIALS, EPOCHS, EXTRA = 50, 40, 26


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        open_store(uri)
        for journal in (None, Path(folder) / "storage" / "study" / JOURNAL_FOLDER):
            recorder = StudyRecorder.open(uri, STUDY, journal)
            waits = []
            for number in range(TRIALS):
                recorder.trial_started(f"t{number}", number, {"alpha": 1.0}, origin="tpe")
                for epoch in range(1, EPOCHS + 1):
                    figures = epoch_metrics(0.123456789 / epoch, EXTRA)
                    started = time.perf_counter()
                    recorder.epoch_finished(f"t{number}", epoch, figures)
                    waits.append(1e6 * (time.perf_counter() - started))
                recorder.trial_ended(f"t{number}", "finished")
            recorder.close()
            waits.sort()
            print(
                f"{'with' if journal else 'without'} a journal, microseconds an epoch: median "
                f"{statistics.median(waits):.0f}, 99% {waits[int(0.99 * len(waits))]:.0f}"
            )
        size = (journal / RECORDS_FILE).stat().st_size
        print(f"journal: {size / TRIALS / 1000:.0f} kB a trial, {size / 1e6:.1f} MB in all")
        (journal / "delivered").unlink()
        other = f"sqlite:///{folder}/other.db"
        open_store(other)
        StudyRecorder.open(other, STUDY).close()  # makes the experiment
        records, started = undelivered_in(journal), time.perf_counter()
        list(deliver_waiting(Path(folder) / "storage", lambda _: other))
        print(f"{records} records delivered later in {time.perf_counter() - started:.1f} s")
        started = time.perf_counter()
        StudyRecorder.open(other, STUDY, journal, resume=True).close()
        print(f"opened and closed to go on in {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
