"""What a worker spends between epochs: on reporting one, and on checkpoints.

    python tests/benchmarks/reporting.py --dataset AWA1 --data-dir DIR --workers 1 --max-epochs 10
    python tests/benchmarks/reporting.py --dataset numbers

Takes the options of ``tuning/search.py`` and runs that search, in a folder of its own. The baseline
is the epochs themselves, trained and scored, in the same processes.
"""

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

import tuning.engine.running
from tuning.engine.trial import objective

FOLDER = "RECORDED_MOMENTS"


def timed(config, data, plan):
    """Be the trainable of a search, and note when its epochs and checkpoints began and ended."""
    from mianet.validation import Validation
    from tuning.engine.checkpoints import CheckpointFile

    moments = []

    def noted(cls, method, what):
        real = getattr(cls, method)

        def note(*arguments):
            begun = time.perf_counter()
            try:
                return real(*arguments)
            finally:
                moments.append((what, begun, time.perf_counter()))

        setattr(cls, method, note)
        return lambda: setattr(cls, method, real)

    undo = [noted(Validation, "epoch", "epoch"), noted(CheckpointFile, "save_if_due", "saving")]
    try:
        objective(config, data, plan)
    finally:  # also where a worker is told to stop
        for each in undo:
            each()
        path = Path(os.environ[FOLDER], f"{os.getpid()}-{time.time_ns()}")
        path.write_text("\n".join(f"{what} {a} {b}" for what, a, b in moments))


def main():
    from tuning.search import main as search

    arguments = [str(Path(a).resolve()) if Path(a).is_dir() else a for a in sys.argv[1:]]
    tuning.engine.running.objective = timed
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER] = str(Path(folder, "moments"))
        os.environ["RAY_ADDRESS"] = "local"  # whose workers inherit the environment
        Path(folder, "moments").mkdir()
        os.chdir(folder)
        sys.argv[1:] = ["--no-final", "--fresh-draws", "0", *arguments]
        with contextlib.suppress(SystemExit):
            search()
        _show([_shares(path) for path in Path(folder, "moments").iterdir()])


def _shares(path):
    """Return a trial's seconds of epochs, of checkpoints, of all else between, and its epochs."""
    moments = [line.split() for line in path.read_text().splitlines()]
    moments = [(what, float(begun), float(ended)) for what, begun, ended in moments]
    epochs = [(begun, ended) for what, begun, ended in moments if what == "epoch"]
    if len(epochs) < 2:
        return 0.0, 0.0, 0.0, 0
    between = epochs[-1][0] - epochs[0][1] - sum(b - a for a, b in epochs[1:-1])
    saving = sum(b - a for what, a, b in moments if what == "saving" and b <= epochs[-1][0])
    return sum(b - a for a, b in epochs[:-1]), saving, between - saving, len(epochs) - 1


def _show(trials):
    epochs, saving, reporting, count = (sum(each) for each in zip(*trials, strict=True))
    print(
        f"{len(trials)} trials, {count} epochs of {1e3 * epochs / count:.1f} ms; "
        f"reporting takes {1e3 * reporting / count:.2f} ms an epoch, {reporting / epochs:.2%}; "
        f"checkpoints {saving / epochs:.2%}"
    )


if __name__ == "__main__":
    main()
