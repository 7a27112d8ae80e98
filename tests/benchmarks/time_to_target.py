"""Wall time until a search has found a configuration of a given quality, against plain Ray Tune.

    python tests/benchmarks/time_to_target.py --dataset AWA1 --data-dir DIR --epochs 30
    python tests/benchmarks/time_to_target.py --dataset numbers --epochs 50 --plain-seconds 1200

Runs ``plain_tune.py`` (random search with a function trainable, no early stopping, Tune's MLflow
callback, a DataLoader, executions in turn) for ``--plain-seconds``, and then ``tuning/search.py``
with each seed until it is as good as the best plain trial, for ``--seconds`` at most; on the same
data and machine, with a worker a core.

A configuration's quality is what a search maximises: validation AUSUC, the mean over five
executions and three epochs, at its best. Targets are the qualities that one in 2, 3, 5, 10 … of the
plain trials came to. For each, the time of ours is from the start of the process to the first epoch
of that quality, by seed. Plain Ray Tune's depends on where in the random order the good ones lie;
so beside the time that was met stands the mean over random searches whose trials are drawn from
those that it ran.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEARCH = HERE.parents[1] / "tuning" / "search.py"
ONE_IN = (2, 3, 5, 10, 20, 40)
RESAMPLES = 2_000


@dataclass(frozen=True)
class Reached:
    """A quality, in percent, and the seconds from the start of a process to it."""

    at: float
    score: float


@dataclass(frozen=True)
class PlainTrial(Reached):
    """A trial of plain Ray Tune; it ended at ``at``, and took ``seconds``."""

    seconds: float


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3, help="of ours")
    parser.add_argument("--seconds", type=float, default=300.0, help="of ours, a seed, at most")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="of ours")
    parser.add_argument("--plain-seconds", type=float, default=3600.0)
    arguments = parser.parse_args()
    data = ["--dataset", arguments.dataset]
    if arguments.data_dir:
        data += ["--data-dir", str(arguments.data_dir.resolve())]
    chosen = [text for each in arguments.set for text in ("--set", each)]
    plain = plainly_searched(arguments, data)
    enough = max(trial.score for trial in plain)
    ours = [searched(arguments, [*data, *chosen], s, enough) for s in range(arguments.seeds)]
    print(f"{arguments.dataset}, up to {arguments.epochs} epochs, {len(plain)} plain trials of "
          f"{statistics.fmean(trial.seconds for trial in plain):.0f} s")  # fmt: skip
    print("reached by  AUSUC ≥  plain met   plain mean   ours by seed            ours mean   ratio")
    scores = sorted((trial.score for trial in plain), reverse=True)
    for one_in in ONE_IN:
        if one_in <= len(plain):
            tell(scores[len(plain) // one_in - 1], plain, ours, arguments.seconds)


def tell(target, plain, ours, most):
    """Print a line; a seed that has not reached the target counts with the seconds that it had."""
    met = first_seconds(plain, target)
    mean = mean_seconds(plain, target)
    seconds = [first_seconds(reached, target) for reached in ours]
    told = ", ".join(f"{each:.0f}" if each else f"more than {most:.0f}" for each in seconds)
    own = statistics.fmean(each or most for each in seconds)
    as_good = sum(trial.score >= target for trial in plain)
    print(
        f"{as_good:3} of {len(plain):3} {target:6.2f} {met:9.0f} s {mean:10.0f} s   {told:22} "
        f"{own:8.0f} s {mean / own:7.1f}"
    )


def first_seconds(reached, target):
    return min((each.at for each in reached if each.score >= target), default=None)


def mean_seconds(trials, target):
    """Return the mean over random searches of when their first trial of that quality ends.

    Each draws its trials from those that were run, with replacement (a bootstrap).
    """
    workers = len(os.sched_getaffinity(0))
    begun = min(trial.at - trial.seconds for trial in trials)
    generator = random.Random(0)

    def reached():
        free, ends = [begun] * workers, []
        while not ends or min(free) < min(ends):
            worker, trial = free.index(min(free)), generator.choice(trials)
            free[worker] += trial.seconds
            if trial.score >= target:
                ends.append(free[worker])
        return min(ends)

    return statistics.fmean(reached() for _ in range(RESAMPLES))


def searched(arguments, data, seed, enough):
    """Return whenever the log of our search held a better epoch than before, until enough."""
    options = [
        "--study", "ours", "--max-epochs", str(arguments.epochs), "--trials", "1000",
        "--time-budget", f"{arguments.seconds:.0f}s", "--seed", str(seed),
        "--no-final", "--fresh-draws", "0",
    ]  # fmt: skip
    reached = [Reached(0.0, 0.0)]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        search = started([str(SEARCH), *data, *options], folder)
        log = Path(folder, "ray_results", "ours", "events.jsonl")
        try:
            while (
                reached[-1].score < enough
                and search.poll() is None
                and time.monotonic() - begun < arguments.seconds
            ):
                best = best_of(log)
                if best > reached[-1].score:
                    reached.append(Reached(time.monotonic() - begun, best))
                time.sleep(0.2)
        finally:
            search.send_signal(signal.SIGINT)
            search.wait(120)
    print(f"ours, seed {seed}: " + ", ".join(f"{r.score:.2f} at {r.at:.0f} s" for r in reached[1:]),
          flush=True)  # fmt: skip
    return reached


def plainly_searched(arguments, data):
    """Return the trials that plain Ray Tune ended in its time."""
    options = ["--epochs", str(arguments.epochs), "--seconds", str(arguments.plain_seconds)]
    with tempfile.TemporaryDirectory() as folder:
        plain = started([str(HERE / "plain_tune.py"), *data, *options], folder)
        lines, trials = [], []
        for line in plain.stdout:
            lines.append(line)
            if line.startswith('{"at"'):
                told = json.loads(line)
                trials.append(PlainTrial(told["at"], 100 * told["score"], told["seconds"]))
                print(f"plain: {100 * told['score']:.2f} at {told['at']:.0f} s", flush=True)
    if plain.wait(600) or not trials:
        raise SystemExit(f"error: plain_tune.py ended with {plain.returncode}\n{''.join(lines)}")
    return trials


def started(command, folder):
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "RAY_ADDRESS": "local"},
        stdout=subprocess.PIPE if "plain_tune.py" in command[0] else subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        text=True,
    )


def best_of(log):
    if not log.exists():
        return 0.0
    lines = log.read_text().split("\n")[:-1]
    return 100 * max((json.loads(line).get("score", 0.0) for line in lines), default=0.0)


if __name__ == "__main__":
    main()
