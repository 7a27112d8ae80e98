"""Is what a search finds better than the paper's configuration, whatever its seed?

    python tests/benchmarks/against_paper.py --seeds 10
    python tests/benchmarks/against_paper.py --seeds 5 --keep build/awa1 --dataset AWA1

runs a search once a seed, each with a database of its own, and prints a table: the test figures of
the selected configuration in percent and, in points, minus those of the paper's, paired by final
seed, with a 95% interval. Options of ``tuning/search.py`` are passed on to it; without
``--dataset`` it is the search of ``infra/demo.sh``. The search's seed decides its draws and its
proposals. Processor seconds are those of all processes, Ray's too; two quiet cores take at least
half of them.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from first_epoch import TICKS, family

from mianet.data.search_data import recorded_name
from tuning.analysis import outcome_table
from tuning.analysis.comparison import paired_difference
from tuning.tracking.reading import read_study

ROOT = Path(__file__).resolve().parents[2]
FIGURES = {
    name: outcome_table.FIGURES[name]
    for name in ("zsl_accuracy", "ausuc", "calibrated_harmonic_mean", "harmonic_mean")
}


def main() -> None:
    """Search, and print a row a seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--keep", type=Path, help="folder for what the searches record")
    parser.add_argument("--dataset", default="numbers")
    options, more = parser.parse_known_args()
    command = [sys.executable, str(ROOT / "tuning/search.py"), "--dataset", options.dataset]
    command += [*(demo_options() if options.dataset == "numbers" else ()), *more]
    headings = ["seed", "trial", "epochs", *FIGURES.values(), "seconds", "CPU s"]
    print(f"| {' | '.join(headings)} |", "|---" * len(headings) + "|", sep="\n")
    better = dict.fromkeys(FIGURES, 0)
    for seed in range(options.first, options.first + options.seeds):
        with folder_of(options.keep, seed) as folder:
            row, differences = searched(command, options.dataset, seed, folder)
        print(f"| {seed} | {row} |", flush=True)
        for figure, difference in differences.items():
            better[figure] += difference.low > 0
    for figure, symbol in FIGURES.items():
        print(f"{symbol}: better beyond the interval in {better[figure]} of {options.seeds}")


def demo_options() -> list[str]:
    """Return the options that the demo gives to the search, after the data set."""
    text = (ROOT / "infra/demo.sh").read_text()
    return shlex.split(re.search(r'--dataset numbers (.*)"\$@"', text)[1])


def folder_of(keep: Path | None, seed: int) -> contextlib.AbstractContextManager:
    """Return a context of a search's folder, which is kept where that is asked for."""
    if keep is None:
        return tempfile.TemporaryDirectory()
    folder = keep / f"seed-{seed}"
    folder.mkdir(parents=True)
    return contextlib.nullcontext(folder)


def searched(command: list[str], dataset: str, seed: int, folder):
    """Return a row of the table and figure → difference, of a search with this seed."""
    folder = Path(folder)
    started, ticks = time.monotonic(), {}
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [*command, "--seed", str(seed), "--study", "searched"],
            cwd=folder,
            stdout=output,
            stderr=output,
        )
        while process.poll() is None:
            time.sleep(0.5)
            ticks |= {one: sum(map(int, f[11:13])) for one, f in family(process.pid).items()}
    if process.returncode:
        sys.exit((folder / "output").read_text())
    seconds, spent = time.monotonic() - started, sum(ticks.values()) / TICKS
    study = read_study(
        f"sqlite:///{folder.resolve()}/mlflow.db", recorded_name(dataset), "searched"
    )
    selected, paper = (study.finals[role] for role in ("selected", "paper"))
    differences = {
        figure: paired_difference(selected.per_seed[figure], paper.per_seed[figure])
        for figure in FIGURES
    }
    trial = next(t for t in study.trials if t.run_id == selected.source_run_id)
    cells = [trial.number, trial.best_epoch]
    cells += [
        f"{100 * selected.figures[f'test_{f}_mean']:.1f}, {d.in_points}"
        for f, d in differences.items()
    ]
    return " | ".join(map(str, [*cells, round(seconds), round(spent)])), differences


if __name__ == "__main__":
    main()
