"""Record learning curves of many configurations, for ``replay``: every execution, every epoch.

    python tests/benchmarks/record_curves.py --dataset numbers
    python tests/benchmarks/record_curves.py --dataset AWA1 --data-dir DIR --share 0.3333 \
        --configurations 150 --further-for 40

Configuration 0 is the paper's, the others are scrambled Sobol points of the default search space,
with other ranges where ``--range`` says so.
Each is trained as a search trains it, but to the last epoch. Executions 0 to 4 are those of a
search with the same seed, the further ones are the fresh draws of its confirmation.

It can be killed at any time: what ended is kept, and the same command goes on. What is recorded
does not depend on how often that happens, nor on the number of processes.
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
from curve_table import FIGURES, FOLDER, UNIT, About, Row, harmonic, read_rows, write_rows
from optuna.distributions import CategoricalDistribution
from scipy.stats import qmc

from mianet.data.search_data import load_search_data, paper_hyperparameters
from mianet.errors import DivergedError
from mianet.processor import use_threads
from mianet.validation import Validation
from tuning.cli.options import value_range, without_repeats
from tuning.spec.space import search_space, space_to_json

SECONDS_BETWEEN_FILES = 300


def main():
    arguments = _arguments()
    path = arguments.out or FOLDER / f"{arguments.dataset.lower()}.parquet"
    data = load_search_data(arguments.dataset, arguments.data_dir)
    about = About(
        data.name, data.digest, arguments.share, arguments.epochs, arguments.seed,
        space_to_json(search_space(ranges=without_repeats("--range", arguments.range))),
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
        help="further draws only for the best K by AUSUC, the best K by H and the paper's",
    )
    parser.add_argument(
        "--range", type=value_range, action="append", default=[], metavar="NAME=LOW:HIGH"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="of one thread each")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _first(arguments):
    units = _products(range(arguments.configurations), _searched(arguments))
    if not arguments.further_for:
        units += _products(range(arguments.configurations), _further(arguments))
    return units


def _searched(arguments):
    return range(arguments.executions)


def _further(arguments):
    return range(arguments.executions, arguments.executions + arguments.further_draws)


def _products(configurations, draws):
    """Return a unit for each configuration: it and the draws that it is trained on together."""
    return [(configuration, draws) for configuration in configurations]


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
        """Return those that are not recorded whole."""
        return [(c, draws) for c, draws in units if any((c, d) not in self.rows for d in draws)]

    def keep_all(self, units):
        """Keep the rows of units as they come, each in the journal at once."""
        packed = time.monotonic()
        for count, rows in enumerate(units, 1):
            with self.journal.open("a") as journal:
                journal.write("".join(f"{row.to_json()}\n" for row in rows))
            self.rows |= {row.key: row for row in rows}
            if time.monotonic() - packed > SECONDS_BETWEEN_FILES:
                self._pack()
                packed = time.monotonic()
                print(f"{count} more units, {len(self.rows)} executions in all", flush=True)

    def _pack(self):
        if self.rows:
            write_rows(self.path, self.about, self.rows)
        self.journal.unlink(missing_ok=True)


def trained(units, about, data_dir, processes):
    """Train unit after unit, and yield the rows of each when it is done.

    A unit is handed out when a process is free for it, so that little is lost at a kill.
    """
    configurations = sobol_configurations(about, 1 + max((c for c, _ in units), default=0))
    queue = iter(units)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:

        def submit(count):
            return {
                pool.submit(train, about, data_dir, c, configurations[c], draws)
                for c, draws in itertools.islice(queue, count)
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
    space = about.distributions
    sobol = qmc.Sobol(len(space), scramble=True, rng=np.random.default_rng(about.seed))
    power = max(0, int(np.ceil(np.log2(max(1, count - 1)))))
    points = sobol.random_base2(power)[: count - 1].tolist()
    drawn = [
        tuple(_at(space[name], share) for name, share in zip(about.names, point, strict=True))
        for point in points
    ]
    return [tuple(paper[name] for name in about.names), *drawn]


def _at(distribution, share):
    """Return the value at a share of a range, in logarithms, or of a list."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(share * len(distribution.choices))]
    return float(distribution.low * (distribution.high / distribution.low) ** share)


def best_configurations(rows, arguments):
    """Return what a search confirms or the paper's rule selects.

    That is the paper's configuration, the K with the highest mean AUSUC, and the K with the highest
    mean H.
    """
    ausuc, plain = {}, {}
    for c in range(arguments.configurations):
        curves = [rows[c, draw] for draw in _searched(arguments)]
        if not any(row.diverged for row in curves):
            ausuc[c] = np.array([row.ausuc for row in curves], float).mean(0).max()
            ts, tr = (
                np.array([getattr(row, name) for row in curves], float) for name in ("ts", "tr")
            )
            plain[c] = harmonic(ts, tr).mean(0).max()
    ranked = [sorted(of, key=of.get, reverse=True) for of in (ausuc, plain)]
    return list(dict.fromkeys([0, *(c for of in ranked for c in of[: arguments.further_for])]))


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


def train(about, data_dir, configuration, values, draws):
    """Train a configuration on some draws to the last epoch, on one thread; return a row a draw."""
    use_threads(1)
    data = shared_data(about.dataset, data_dir, about.share, about.seed)
    settings = paper_hyperparameters(about.dataset).replace(
        **dict(zip(about.names, values, strict=True))
    )
    epochs, diverged = [], ""
    begun = time.process_time()
    validation = Validation(data, settings, executions=len(draws), seed=about.seed, first=draws[0])
    try:
        for _ in range(about.epochs):
            epochs.append([_figures(metrics) for metrics in validation.epoch().executions])
    except DivergedError as error:
        diverged = str(error)
    seconds = (time.process_time() - begun) / max(1, len(epochs)) / len(draws)
    units = np.rint(np.reshape(epochs, (-1, len(draws), len(FIGURES))) * UNIT).astype(int)
    return [
        Row(
            configuration,
            draw,
            values,
            seconds=round(seconds, 5),
            diverged=diverged,
            **{name: tuple(units[:, place, f].tolist()) for f, name in enumerate(FIGURES)},
        )
        for place, draw in enumerate(draws)
    ]


def _figures(metrics):
    """Return an execution's figures in the order of ``FIGURES``."""
    return (
        metrics.unseen_accuracy,
        metrics.seen_accuracy,
        metrics.zsl_accuracy,
        metrics.ausuc,
        metrics.calibrated_harmonic_mean,
    )


if __name__ == "__main__":
    main()
