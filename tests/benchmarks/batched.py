"""Milliseconds of an execution's epoch, five executions batched against one after the other.

    python tests/benchmarks/batched.py [--threads 1] [--epochs 5] [width …]

On synthetic data of 40 classes and some widths of features. ``BATCHED_WEIGHTS`` of
``mianet.training`` stands where the ratio falls below 1 on a CPU.
"""

import argparse
import time

import numpy as np
import torch

from mianet.config import Hyperparameters
from mianet.data.search_data import SearchData
from mianet.processor import use_threads
from mianet.protocol import validation_tasks
from mianet.training import Batched, InTurn

EXECUTIONS = 5
CLASSES, ATTRIBUTES, IMAGES = 40, 85, 3000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("widths", nargs="*", type=int, default=[32, 64, 128, 256, 512, 2048])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    settings = Hyperparameters()
    print(f"{'features':>8}{'weights':>10}{'in turn ms':>12}{'batched ms':>12}{'ratio':>8}")
    for width in arguments.widths:
        tasks = validation_tasks(
            random_data(width), executions=EXECUTIONS, seed=0, device=torch.device(arguments.device)
        )
        seeds = range(EXECUTIONS)
        each = [Batched([t], settings, seeds=[s]) for t, s in zip(tasks, seeds, strict=True)]
        in_turn = seconds(InTurn(each), arguments.epochs)
        batched = seconds(Batched(tasks, settings, seeds=seeds), arguments.epochs)
        weights = settings.hidden_dim * (width + settings.latent_dim(CLASSES))
        print(
            f"{width:8}{weights:10}{1e3 * in_turn:12.1f}{1e3 * batched:12.1f}"
            f"{in_turn / batched:8.2f}",
            flush=True,
        )


def seconds(trainings, epochs):
    """Return the least time of an epoch, divided among the executions."""
    return min(times_of(trainings, epochs)) / EXECUTIONS


def times_of(training, epochs):
    """Return the wall time of each epoch, after a first one that warms up."""
    times = []
    for _ in range(1 + epochs):
        begun = time.perf_counter()
        training.epoch()
        times.append(time.perf_counter() - begun)
    return times[1:]


def random_data(width):
    random = np.random.default_rng(0)
    return SearchData(
        name="random",
        digest="0" * 64,
        features=random.random((IMAGES, width), dtype=np.float32),
        labels=np.arange(IMAGES) % CLASSES,
        class_attributes=random.random((CLASSES, ATTRIBUTES), dtype=np.float32),
        class_names=tuple(map(str, range(CLASSES))),
        class_ids=np.arange(CLASSES),
    )


if __name__ == "__main__":
    main()
