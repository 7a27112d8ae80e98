"""Milliseconds of a training step against the pair-by-pair way, on every data set's shape.

    python tests/benchmarks/step.py [--threads 2] [--steps 20] [name …]

Prints, for each shape, the times and their ratio, and the share of this machine's matrix rate that
a step achieves, all measured in the same run: the floor of a step is its matrix products, each
computed once, at that rate. The pair-by-pair way is timed twice: as PyTorch multiplies of itself,
and with the products that ``use_threads`` chooses (on AMD's processors they differ).
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pairwise import PairwiseTrainer

from mianet.config import Hyperparameters
from mianet.data.datasets import DATASETS
from mianet.model import build_model
from mianet.processor import use_threads
from mianet.protocol import Subset, Task
from mianet.steps import Batch, Stepper

PUBLISHED = ("apy", "awa1", "awa2", "cub", "sun")
WARM_UP = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=PUBLISHED)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    rate = alone(matrix_rate, arguments.threads)
    print(f"{arguments.threads} threads, matrix products at {rate / 1e9:.0f} GFLOP/s")
    print(
        f"{'shape':8}{'pairwise ms':>13}{'same products':>15}{'ours ms':>10}{'ratio':>8}"
        f"{'same products':>15}{'GFLOP':>8}{'of rate':>9}"
    )
    for name in arguments.names:
        spec = DATASETS[name]
        usual = alone(pairwise_seconds, name, arguments.steps, arguments.threads, False)
        same = alone(pairwise_seconds, name, arguments.steps, arguments.threads, True)
        ours = alone(our_seconds, name, arguments.steps, arguments.threads)
        flops = matrix_flops(spec)
        print(
            f"{name:8}{1e3 * usual:13.1f}{1e3 * same:15.1f}{1e3 * ours:10.1f}{usual / ours:8.2f}"
            f"{same / ours:15.2f}{flops / 1e9:8.2f}{flops / rate / ours:9.0%}",
            flush=True,
        )


def alone(function, *arguments):
    """Call it in a new process, so that neither meets what the other left in caches and heap."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result(timeout=600)


def pairwise_seconds(name, steps, threads, our_products):
    (use_threads if our_products else torch.set_num_threads)(threads)
    model, settings, task, batches = prepare(DATASETS[name])
    slow = PairwiseTrainer(model, settings, task.class_attributes, task.seen_classes)
    return median_seconds(
        lambda batch: slow.step(batch.features[0], batch.classes[0], batch.other_classes[0]),
        batches,
        steps,
    )


def our_seconds(name, steps, threads):
    use_threads(threads)
    model, settings, task, batches = prepare(DATASETS[name])
    return median_seconds(Stepper([model], settings, [task]).step, batches, steps)


def prepare(spec):
    settings = Hyperparameters()
    task, batches = random_task(spec, settings.batch_images)
    model = build_model(
        settings,
        feature_dim=spec.feature_dim,
        attribute_dim=spec.attribute_dim,
        classes=len(task.class_attributes),
        seed=0,
    )
    return model, settings, task, batches


def median_seconds(step, batches, steps):
    times = []
    for number in range(steps + WARM_UP):
        begun = time.perf_counter()
        step(batches[number % len(batches)])
        times.append(time.perf_counter() - begun)
    return statistics.median(times[WARM_UP:])


def random_task(spec, images):
    """Return the world of a validation draw with random images, and a few batches."""
    generator = torch.Generator().manual_seed(0)
    classes = spec.seen_classes
    unseen = round(0.2 * classes)
    features = torch.rand(4 * images, spec.feature_dim, generator=generator)
    labels = torch.randint(unseen, classes, (4 * images,), generator=generator)
    part = Subset(features, labels, torch.arange(4 * images))
    attributes = torch.rand(classes, spec.attribute_dim, generator=generator)
    seen = torch.arange(unseen, classes)
    task = Task(attributes, seen, torch.arange(unseen), part, part, part)
    batches = []
    for rows in torch.arange(4 * images).split(images):
        own = labels[rows] - unseen
        other = (own + 1) % len(seen)
        weights = torch.ones(1, len(rows))
        batches.append(Batch(features[rows][None], own[None], other[None], weights))
    return task, batches


def matrix_flops(spec, hidden=2048):
    """Return the floating point operations of a step's matrix products, each computed once."""
    classes = spec.seen_classes
    latent = 2 * classes
    images = Hyperparameters().batch_images
    _, batches = random_task(spec, images)
    rebuilt = statistics.fmean(len(batch.classes.unique()) for batch in batches)
    # Of each product: forward, and the gradients of its weights and of its input. The images
    # themselves need no gradient; the Gram matrix of eq. 2 has one product backward.
    visual = images * hidden * (2 * spec.feature_dim + 3 * latent)
    rebuilding = 3 * rebuilt * hidden * (spec.feature_dim + latent)
    semantic = (2 * classes + 3 * images) * spec.attribute_dim * latent
    gram = 2 * classes * classes * latent
    return 2 * (visual + rebuilding + semantic + gram)


def matrix_rate(threads):
    """Return the best rate of a step's largest product, in operations a second."""
    use_threads(threads)
    a, b = torch.rand(150, 2048), torch.rand(2048, 2048)
    best = 0.0
    for _ in range(20):
        begun = time.perf_counter()
        a @ b
        best = max(best, 2 * a.shape[0] * b.numel() / (time.perf_counter() - begun))
    return best


if __name__ == "__main__":
    main()
