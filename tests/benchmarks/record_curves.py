"""Record learning curves of many configurations, for ``replay``: every execution, every epoch.

    python tests/benchmarks/record_curves.py --dataset digits
    python tests/benchmarks/record_curves.py --dataset AWA1 --data-dir DIR --share 0.3333 \
        --configurations 150 --further-for 40

Configuration 0 is the paper's, the others are scrambled Sobol points of the default search space.
Each execution is trained as a search trains it, but to the last epoch. Executions 0 to 4 are those
of a search with the same seed, the further ones are the fresh draws of its confirmation.

It can be killed at any time: an execution that ended is kept, and the same command goes on. What is
recorded does not depend on how often that happens, nor on the number of processes.
"""

import argparse
import dataclasses
import functools
import itertools
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path

import numpy as np
import torch
from curve_table import ACCURACIES, FOLDER, UNIT, About, Row, harmonic, read_rows, write_rows
from scipy.stats import qmc

from mianet.data.search_data import load_search_data, paper_hyperparameters
from mianet.errors import DivergedError
from mianet.evaluation import evaluate
from mianet.processor import use_threads
from mianet.protocol import validation_tasks
from mianet.training import Training
from mianet.validation import execution_seed
from tuning.spec.space import search_space

SECONDS_BETWEEN_FILES = 300


def main():
    arguments = _arguments()
    path = arguments.out or FOLDER / f"{arguments.dataset.lower()}.parquet"
    data = load_search_data(arguments.dataset, arguments.data_dir)
    about = About(
        data.name, data.digest, arguments.share, arguments.epochs, arguments.seed,
        tuple(search_space()),
    )  # fmt: skip
    with Recorder(path, about) as recorder:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended; the same command goes on"))

        def record(units):
            missing = recorder.missing(units)
            recorder.keep_all(trained(missing, about, arguments.data_dir, arguments.processes))

        record(_first(arguments))
        if arguments.further_for:
            record(_products(best_configurations(recorder.rows, arguments), _further(arguments)))


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of each class's images")
    parser.add_argument("--configurations", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--executions", type=int, default=5)
    parser.add_argument("--further-draws", type=int, default=10)
    parser.add_argument(
        "--further-for",
        type=int,
        metavar="K",
        help="draw further for the best K and the paper's alone, at the end",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="of one thread each")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _first(arguments):
    draws = arguments.executions + (0 if arguments.further_for else arguments.further_draws)
    return _products(range(arguments.configurations), range(draws))


def _further(arguments):
    return range(arguments.executions, arguments.executions + arguments.further_draws)


def _products(configurations, draws):
    return list(itertools.product(configurations, draws))


class Recorder:
    """The rows recorded so far: those of the Parquet file, and those of a journal beside it."""

    def __init__(self, path, about):
        self.path = path
        self.about = about
        self.journal = path.with_suffix(".journal")
        self.rows = {}
        if path.exists():
            found, self.rows = read_rows(path)
            if found != about:
                raise SystemExit(f"error: {path} holds {found}, but now it is {about}; use --out")
        if self.journal.exists():
            whole = self.journal.read_text().split("\n")[:-1]  # a line cut short is left out
            self.rows |= {row.key: row for row in map(Row.from_json, whole)}

    def __enter__(self):
        self._pack()
        return self

    def __exit__(self, *_):
        self._pack()

    def missing(self, units):
        """Return those (configuration, draw) that are not recorded."""
        return [unit for unit in units if unit not in self.rows]

    def keep_all(self, rows):
        """Keep rows as they come, each in the journal at once."""
        packed = time.monotonic()
        for count, row in enumerate(rows, 1):
            with self.journal.open("a") as journal:
                journal.write(f"{row.to_json()}\n")
            self.rows[row.key] = row
            if time.monotonic() - packed > SECONDS_BETWEEN_FILES:
                self._pack()
                packed = time.monotonic()
                print(f"{count} more executions, {len(self.rows)} in all", flush=True)

    def _pack(self):
        if self.rows:
            write_rows(self.path, self.about, self.rows)
        self.journal.unlink(missing_ok=True)


def trained(units, about, data_dir, processes):
    """Train (configuration, draw) after (configuration, draw), and yield each row when it is done.

    A unit is handed out when a process is free for it, so that little is lost at a kill.
    """
    configurations = sobol_configurations(about, 1 + max((c for c, _ in units), default=0))
    queue = iter(units)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:

        def submit(count):
            return {
                pool.submit(train_one, about, data_dir, c, configurations[c], draw)
                for c, draw in itertools.islice(queue, count)
            }

        running = submit(2 * processes)
        try:
            while running:
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                running |= submit(len(ended))
                for future in ended:
                    yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def sobol_configurations(about, count):
    """Return the values of configurations 0, 1, …, of which a longer list begins with the same."""
    paper = paper_hyperparameters(about.dataset).as_dict()
    space = search_space(about.names)
    low = np.log([space[name].low for name in about.names])
    high = np.log([space[name].high for name in about.names])
    sobol = qmc.Sobol(len(space), scramble=True, rng=np.random.default_rng(about.seed))
    power = max(0, int(np.ceil(np.log2(max(1, count - 1)))))
    points = np.exp(low + sobol.random_base2(power) * (high - low))
    rows = [[paper[name] for name in about.names], *points[: count - 1].tolist()]
    return [tuple(map(float, row)) for row in rows]


def best_configurations(rows, arguments):
    """Return the paper's, which every search confirms, and the K that a search scores best.

    Those are the K with the highest mean H over the executions, at any epoch.
    """
    scores = {}
    for c in range(arguments.configurations):
        curves = [rows[c, draw] for draw in range(arguments.executions)]
        if not any(row.diverged for row in curves):
            ts, tr = (np.array([getattr(r, n) for r in curves], float) for n in ("ts", "tr"))
            scores[c] = harmonic(ts, tr).mean(0).max()
    best = sorted(scores, key=scores.get, reverse=True)[: arguments.further_for]
    return list(dict.fromkeys([0, *best]))


@functools.cache
def shared_data(name, data_dir, share, seed):
    """Return a stratified share of what a search may see; every worker takes the same images."""
    data = load_search_data(name, data_dir)
    if share == 1:
        return data
    random = np.random.default_rng([seed, 0x5A4E])
    chosen = []
    for label in range(len(data.class_names)):
        rows = random.permutation(np.flatnonzero(data.labels == label))
        chosen.append(rows[: max(2, round(share * len(rows)))])
    rows = np.sort(np.concatenate(chosen))
    return dataclasses.replace(
        data, features=np.ascontiguousarray(data.features[rows]), labels=data.labels[rows]
    )


@functools.cache
def task_of(name, data_dir, share, seed, draw):
    data = shared_data(name, data_dir, share, seed)
    (task,) = validation_tasks(
        data, executions=1, seed=seed, device=torch.device("cpu"), first=draw
    )
    return task


def train_one(about, data_dir, configuration, values, draw):
    """Train one execution of one configuration to the last epoch, on one thread."""
    use_threads(1)
    task = task_of(about.dataset, data_dir, about.share, about.seed, draw)
    settings = paper_hyperparameters(about.dataset).replace(
        **dict(zip(about.names, values, strict=True))
    )
    curves, diverged = [], ""
    begun = time.process_time()
    training = Training(task, settings, seed=execution_seed(about.seed, draw))
    try:
        for _ in range(about.epochs):
            epoch = training.epoch()
            metrics = evaluate(epoch.model, epoch.scaler, task)
            curves.append((metrics.unseen_accuracy, metrics.seen_accuracy, metrics.zsl_accuracy))
    except DivergedError as error:
        diverged = str(error)
    seconds = (time.process_time() - begun) / max(1, len(curves))
    units = np.rint(np.array(curves).reshape(-1, 3) * UNIT).astype(int).T.tolist()
    return Row(
        configuration,
        draw,
        values,
        seconds=round(seconds, 5),
        diverged=diverged,
        **{name: tuple(column) for name, column in zip(ACCURACIES, units, strict=True)},
    )


if __name__ == "__main__":
    main()
