"""What a search costs beside its trainings, trial by trial: a replayed objective, all else real.

    python tests/benchmarks/scale.py --trials 20000 --workers 256 --folder /tmp/scale

Real are Ray's scheduler with many nodes on this machine, a placement group for each running trial,
Ray Tune's loop, and the study's searcher, scheduler, log and record (MLflow in SQLite). Epochs
take no time: recorded curves are told again, those of the nearest recorded configuration. So what
is measured is the most that the driver can do. A worker is an object in the one process that each
node has, since a process of its own takes 110 MB; ``--processes`` gives it one, as a search does.

Prints a line for each part of the trials, the first to the last: milliseconds a trial in all; those
of the driver's main thread by what they went into (each without what it calls of the others), in
processor time where ``--processor`` says so; processor time of the threads that deliver to MLflow
and keep the Optuna file; megabytes of the log that wait for MLflow; the driver's memory.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import ray
from curve_table import FIGURES, FOLDER, UNIT, coordinate, harmonic, read_rows
from ray.air.execution.resources.placement_group import PlacementGroupAcquiredResources
from ray.cluster_utils import Cluster
from ray.tune import Trainable
from ray.tune.execution.tune_controller import TuneController
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mianet.data.search_data import load_search_data
from tuning.compute.cluster import Share
from tuning.compute.display import StatusLine
from tuning.engine import interrupts, running
from tuning.engine.description import describe_study
from tuning.engine.progress import SearchProgress
from tuning.engine.results import BEST_EPOCH, CONFIGURATION, EPOCH, METRICS, SCORE
from tuning.engine.searcher import Proposer, StudySearcher
from tuning.engine.stopping import Stopping
from tuning.engine.study import Study, base_settings
from tuning.events.log import EventLog, open_log
from tuning.events.projector import Projector
from tuning.spec.objectives import CALIBRATION, DEFAULT_OBJECTIVE, OBJECTIVES
from tuning.spec.space import search_space
from tuning.tracking.optuna_projection import OptunaProjection
from tuning.tracking.projections import StudyProjection
from tuning.tracking.recording import Recording
from tuning.tracking.store import open_store

FILES = ("events.jsonl", "optuna.log", "tune")
VALUE = OBJECTIVES[DEFAULT_OBJECTIVE].value
LINES = 20
"""How many lines are printed at most."""


class Replay(Trainable):
    """A trial that tells a recorded curve again."""

    def setup(self, config, data, plan):
        self._curves = data.curves
        self.reset_config(config)

    def reset_config(self, new_config):
        self._epochs = self._curves.of(new_config[CONFIGURATION])
        self._number, self._score, self._best = 0, -1.0, 0
        return True

    def step(self):
        metrics = self._epochs[self._number]
        self._number += 1
        if metrics[VALUE] > self._score:
            self._score, self._best = metrics[VALUE], self._number
        last = self._number == len(self._epochs)
        told = {SCORE: self._score, BEST_EPOCH: self._best, METRICS: list(metrics.items())}
        return {EPOCH: self._number, "done": last, **told}

    def save_checkpoint(self, checkpoint_dir):
        return None


class Curves:
    """Recorded curves; a configuration has those of its nearest neighbour, logarithms compared."""

    def __init__(self, path, epochs, executions):
        about, rows = read_rows(path)
        self.names, self.epochs = about.names, min(epochs, about.epochs)
        draws = {}
        for (number, draw), row in sorted(rows.items()):
            if draw < executions and not row.diverged:
                draws.setdefault(number, []).append(row)
        whole = [rows for rows in draws.values() if len(rows) == executions]
        self._space = about.distributions
        self._points = np.array([self._point(rows[0].values) for rows in whole])
        self._values = (
            np.array(
                [[[getattr(r, n)[: self.epochs] for n in FIGURES] for r in rows] for rows in whole]
            )
            / UNIT
        )  # configurations, executions, figures, epochs

    def of(self, configuration):
        point = self._point([configuration[name] for name in self.names])
        nearest = np.argmin(((self._points - point) ** 2).sum(1))
        return [self._metrics(self._values[nearest, :, :, e]) for e in range(self.epochs)]

    def _point(self, values):
        return [coordinate(self._space[n], v) for n, v in zip(self.names, values, strict=True)]

    def _metrics(self, values):
        ts, tr, t1, ausuc, calibrated = values.T
        figures = {
            "unseen_accuracy": ts, "seen_accuracy": tr, "harmonic_mean": harmonic(ts, tr),
            "zsl_accuracy": t1, "ausuc": ausuc, "calibrated_harmonic_mean": calibrated,
        }  # fmt: skip
        return {
            **{f"val_{name}": float(of.mean()) for name, of in figures.items()},
            **{
                f"val_{name}_execution_{k}": float(value)
                for name, of in figures.items()
                for k, value in enumerate(of)
            },
            VALUE: float(ausuc.mean()),
            CALIBRATION: 0.1,
            **dict.fromkeys(("loss_matching", "loss_orthogonality"), 0.123456789),
            **dict.fromkeys(("loss_reconstruction", "loss_modality"), 9.87654321),
        }  # fmt: skip


class Host:
    """The process of a node in which its trials run."""

    def __init__(self):
        self._trials = {}

    def begin(self, key, cls, kwargs):
        self._trials[key] = cls(**kwargs)

    def call(self, key, method, *arguments, **named):
        if method == "__ray_ready__":
            return True
        if method == "__ray_terminate__":
            return self._trials.pop(key).stop()
        return getattr(self._trials[key], method)(*arguments, **named)


class Light:
    """What Ray Tune takes for an actor: each call goes to the host of a node."""

    def __init__(self, host, key):
        self._host, self._key = host, key

    def __getattr__(self, method):
        return SimpleNamespace(
            remote=lambda *a, **k: self._host.call.remote(self._key, method, *a, **k)
        )


def use_light_actors(cluster):
    """Put trials into a process a node; their placement groups stay as they are."""
    at = lambda node: NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)  # noqa: E731
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    remote = ray.remote(num_cpus=0)(Host)
    hosts = itertools.cycle([remote.options(scheduling_strategy=at(n)).remote() for n in nodes])
    keys = itertools.count()

    def annotate(self, entity, bundle, bundle_index):
        def begin(**kwargs):
            host, key = next(hosts), next(keys)
            host.begin.remote(key, entity.__ray_metadata__.modified_class, kwargs)
            return Light(host, key)

        return SimpleNamespace(remote=begin)

    PlacementGroupAcquiredResources._annotate_remote_entity = annotate


@dataclass
class Clock:
    """Where the time of the driver's main thread goes; each part without the others in it."""

    now: Callable[[], float]
    seconds: Counter = field(default_factory=Counter)
    threads: Counter = field(default_factory=Counter)
    _inside: list = field(default_factory=list)
    _since: float = 0.0

    def watch(self, part, owner, *names):
        for name in names:
            setattr(owner, name, self._timed(part, getattr(owner, name)))

    def watch_thread(self, part, owner, *names):
        """Take the processor time of what a thread of its own does."""
        for name in names:
            setattr(owner, name, self._timed_thread(part, getattr(owner, name)))

    def _timed_thread(self, part, function):
        def timed(*arguments):
            before = time.thread_time()
            try:
                return function(*arguments)
            finally:
                self.threads[part] += time.thread_time() - before

        return timed

    def _timed(self, part, function):
        def timed(*arguments, **named):
            if threading.current_thread() is not threading.main_thread():
                return function(*arguments, **named)
            self._note()
            self._inside.append(part)
            try:
                return function(*arguments, **named)
            finally:
                self._note()
                self._inside.pop()

        return timed

    def _note(self):
        now = self.now()
        if self._inside:
            self.seconds[self._inside[-1]] += now - self._since
        self._since = now


PARTS = ("sampler", "scheduler", "log", "progress", "snapshot", "waiting", "Tune")
THREADS = ("MLflow", "Optuna")


def watched(clock):
    """Time what a driver does; what is left of Ray Tune's loop is its own."""
    clock.watch("Tune", TuneController, "step")
    clock.watch("snapshot", TuneController, "checkpoint")
    clock.watch("sampler", Proposer, "propose", "handle")
    clock.watch("scheduler", Stopping, "should_stop", "handle")
    clock.watch("log", EventLog, "append")
    clock.watch("progress", StudySearcher, "suggest")
    names = ("start", "result", "complete", "error")
    clock.watch("progress", SearchProgress, *(f"on_trial_{n}" for n in names), "on_step_end")
    clock.watch("waiting", ray, "wait")
    clock.watch_thread("MLflow", StudyProjection, "handle", "flush")
    clock.watch_thread("Optuna", OptunaProjection, "handle", "mark")


class Lines:
    """Prints a line whenever so many more trials have ended."""

    def __init__(self, clock, every, log, recording):
        self.clock, self.every, self.log, self.recording = clock, every, log, recording
        self.ended, self.before = 0, self._state()
        parts = "".join(part.rjust(10) for part in PARTS)
        rest = "".join(name.rjust(9) for name in (*THREADS, "MB wait"))
        print(f"{'trials':>13s} {'ms/trial':>8s}{parts}{rest}{'MB':>7s}", flush=True)

    def __call__(self, event):
        if event.__class__.__name__ == "Ended":
            self.ended += 1
            if self.ended % self.every == 0:
                self.show()

    def show(self):
        now = self._state()
        took = {name: 1000 * (now[name] - self.before[name]) / self.every for name in now}
        self.before = now
        cells = "".join(f"{took[part]:10.2f}" for part in PARTS)
        trials = f"{self.ended - self.every:6d}-{self.ended:<7d}{took['all']:9.2f}"
        threads = "".join(f"{took[thread]:9.2f}" for thread in THREADS)
        print(f"{trials}{cells}{threads}{self.undelivered():9.1f}{memory_mb():7.0f}", flush=True)

    def _state(self):
        spent = {part: self.clock.seconds[part] for part in PARTS}
        threads = {thread: self.clock.threads[thread] for thread in THREADS}
        return {**spent, **threads, "all": time.perf_counter()}

    def undelivered(self):
        return (self.log.end - self.recording._projector.end) / 1e6


def memory_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main():
    arguments = _arguments()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    curves = Curves(arguments.curves, arguments.max_epochs, executions=5)
    slots = -(-arguments.workers // arguments.nodes)
    cluster = Cluster()
    cluster.add_node(num_cpus=0, object_store_memory=100_000_000, include_dashboard=False)
    for _ in range(arguments.nodes):
        cluster.add_node(num_cpus=slots, object_store_memory=80_000_000)
    ray.init(cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    cluster.wait_for_nodes()
    if not arguments.processes:
        use_light_actors(cluster)
    try:
        outcome = search(arguments, curves)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert sum(outcome.counts.values()) == arguments.trials, outcome


def search(arguments, curves):
    """Run the study as ``search.py`` does, on this cluster."""
    settings = Study(
        name="scale", space=search_space(), fixed={}, trials=arguments.trials,
        max_epochs=curves.epochs, patience=5, executions=5, seed=0, sampler=arguments.sampler,
        scheduler=arguments.scheduler,
    )  # fmt: skip
    data = load_search_data("numbers")
    share = Share(arguments.workers, 1, 0)
    running.objective = Replay
    uri = arguments.tracking_uri or f"sqlite:///{arguments.folder}/mlflow.db"
    clock = Clock(time.thread_time if arguments.processor else time.perf_counter)
    watched(clock)
    with open_log(arguments.folder / "scale") as log:
        description = describe_study(settings, data, "replayed", share, "simulated nodes")
        open_store(uri)
        base = base_settings(settings, data.name).as_dict()
        recording = Recording(uri, log, description, hyperparameters=base)
        lines = Lines(clock, max(1, arguments.trials // LINES), log, recording)
        started, cpu = time.perf_counter(), time.process_time()
        SearchProgress._say = lambda self, line: None
        replayed = SimpleNamespace(name=data.name, curves=curves)
        interrupt = interrupts.Interrupt()
        optuna_file = OptunaProjection(
            log, patience=settings.patience, run_id=recording.run_id, run_of=recording.run_of
        )
        with Projector(log, optuna_file):
            outcome = running.run_study(
                settings, data.name, ray.put(replayed), share, log, interrupt, StatusLine(), [lines]
            )
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        waiting = lines.undelivered()
        closing = time.perf_counter()
        with mock.patch("tuning.tracking.recording.CLOSE_SECONDS", 3600):
            recording.close()
        closing = time.perf_counter() - closing
    _report(arguments, outcome, seconds, cpu, waiting, closing)
    return outcome


def _report(arguments, outcome, seconds, cpu, waiting, closing):
    sizes = {name: megabytes(arguments.folder / "scale" / name) for name in FILES}
    print(
        f"{arguments.trials} trials, {arguments.workers} at once on {arguments.nodes} nodes, "
        f"{arguments.sampler}, {arguments.scheduler}: {seconds:.0f} s, {cpu:.0f} s of processor "
        f"time of the driver; {dict(outcome.counts)}; {waiting:.1f} MB of the log waited at the "
        f"end and were delivered in {closing:.0f} s; MB of files: {sizes}"
    )


def megabytes(path):
    files = [path] if path.is_file() else path.rglob("*")
    return round(sum(file.stat().st_size for file in files if file.is_file()) / 1e6)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=256)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--sampler", default="qmc")
    parser.add_argument("--scheduler", default="asha")
    parser.add_argument("--max-epochs", type=int, default=30)
    parser.add_argument("--curves", type=Path, default=FOLDER / "numbers.parquet")
    parser.add_argument("--folder", type=Path, required=True, help="emptied first")
    parser.add_argument("--tracking-uri", help="a server instead of SQLite in the folder")
    parser.add_argument(
        "--processor", action="store_true", help="processor time, on a machine with other work"
    )
    parser.add_argument("--processes", action="store_true", help="a process for each worker")
    return parser.parse_args()


if __name__ == "__main__":
    main()
