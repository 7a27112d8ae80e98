"""Is what the demo finds better than the paper's configuration, whatever its seed?

    python tests/benchmarks/demo.py --seeds 10

runs the search of ``infra/demo.sh`` once a seed, each with a database of its own, and prints a
table: the selected configuration's test figures minus those of the paper's, paired by final seed,
with a 95% interval, in points. The search's seed decides its draws and its proposals. Processor
seconds are those of all processes, Ray's too; two quiet cores take at least half of them.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from first_epoch import TICKS, family

from tuning.analysis.comparison import paired_difference
from tuning.tracking.reading import read_study

ROOT = Path(__file__).resolve().parents[2]
FIGURES = {"zsl_accuracy": "T1", "calibrated_harmonic_mean": "calibrated H"}


def main() -> None:
    """Search, and print a row a seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options, more = parser.parse_known_args()
    command = [sys.executable, str(ROOT / "tuning/search.py"), *demo_options(), *more]
    print(
        "| seed | trial | epochs |", *(f"{s} |" for s in FIGURES.values()), "seconds |", "CPU s |"
    )
    print("|---" * (5 + len(FIGURES)) + "|")
    apart = dict.fromkeys(FIGURES, 0)
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            row, differences = searched(command, seed, Path(folder))
        print(f"| {seed} | {row} |", flush=True)
        for figure, difference in differences.items():
            apart[figure] += difference.low > 0
    for figure, symbol in FIGURES.items():
        print(f"{symbol}: better beyond the interval in {apart[figure]} of {options.seeds}")


def demo_options() -> list[str]:
    """Return the options that the demo gives to the search."""
    text = (ROOT / "infra/demo.sh").read_text()
    return shlex.split(re.search(r'search\.py" \\\n(.*)"\$@"', text)[1])


def searched(command: list[str], seed: int, folder: Path):
    """Return a row of the table and figure → difference, of a search with this seed."""
    started, ticks = time.monotonic(), {}
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            [*command, "--seed", str(seed), "--study", "demo"],
            cwd=folder,
            stdout=said,
            stderr=said,
        )
        while process.poll() is None:
            time.sleep(0.5)
            ticks |= {one: sum(map(int, f[11:13])) for one, f in family(process.pid).items()}
    if process.returncode:
        sys.exit((folder / "said").read_text())
    seconds, spent = time.monotonic() - started, sum(ticks.values()) / TICKS
    study = read_study(f"sqlite:///{folder}/mlflow.db", "numbers", "demo")
    finals = study.finals
    differences = {
        figure: paired_difference(
            finals["selected"].per_seed[figure], finals["paper"].per_seed[figure]
        )
        for figure in FIGURES
    }
    trial = next(t for t in study.trials if t.run_id == finals["selected"].source_run_id)
    words = [trial.number, trial.best_epoch, *(d.in_points for d in differences.values())]
    return " | ".join(map(str, [*words, round(seconds), round(spent)])), differences


if __name__ == "__main__":
    main()
