"""Epochs a second of a trial, on a CPU or a GPU, against the same model written the usual way.

    python tests/benchmarks/epochs.py synthetic:apy --device cuda
    python tests/benchmarks/epochs.py AWA1 --data-dir DIR --threads 1

An epoch is that of all five executions, scored on their held-out images. The usual way takes every
pair on its own, with autograd, batches from a ``DataLoader`` with workers, executions in turn. Ours
is timed in each precision, and the best AUSUC of each is printed for some seeds of the weights, so
that what rounding does can be set beside what another seed does.
"""

import argparse
import statistics
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from batched import times_of
from pairwise import UsualExecution

from mianet.data.search_data import load_search_data, paper_hyperparameters
from mianet.evaluation import evaluate
from mianet.processor import use_threads
from mianet.protocol import validation_tasks
from mianet.training import begin_mianet

EXECUTIONS = 5
PRECISIONS = ("fp32", "tf32", "bf16")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--loader-workers", type=int, default=2, help="of the usual way")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--usual-epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)  # and the products that PyTorch chooses of itself
    data = load_search_data(arguments.dataset, arguments.data_dir)
    changed = dict(each.split("=", 1) for each in arguments.set)
    paper = paper_hyperparameters(arguments.dataset)
    settings = type(paper).from_mapping({**paper.as_dict(), **changed})
    tasks = validation_tasks(
        data, executions=EXECUTIONS, seed=0, device=torch.device(arguments.device)
    )
    usual = seconds_of(Usual(tasks, settings, arguments.loader_workers), arguments.usual_epochs)
    print(f"usual {usual:8.3f} s an epoch", flush=True)
    use_threads(arguments.threads)
    on_gpu = arguments.device != "cpu"
    for precision in PRECISIONS if on_gpu else ("fp32", "bf16"):
        best = []
        for seed in range(arguments.seeds):
            ours = Ours(tasks, settings.replace(precision=precision), seed)
            seconds = seconds_of(ours, arguments.epochs)
            best.append(100 * max(ours.curve))
        print(
            f"{precision} {seconds:9.3f} s an epoch, {usual / seconds:5.1f} times as many a "
            f"second; best AUSUC by seed {', '.join(f'{area:.2f}' for area in best)}",
            flush=True,
        )


def seconds_of(trial, epochs):
    return statistics.median(times_of(trial, epochs))


class Ours:
    def __init__(self, tasks, settings, seed):
        self.tasks, self.curve = tasks, []
        seeds = [100 * seed + execution for execution in range(len(tasks))]
        self.trainings = begin_mianet(tasks, settings, seeds=seeds)

    def epoch(self):
        epochs = self.trainings.epoch()
        self.curve.append(
            statistics.fmean(
                evaluate(epoch, task).ausuc for epoch, task in zip(epochs, self.tasks, strict=True)
            )
        )


class Usual:
    def __init__(self, tasks, settings, workers):
        self.executions = [
            UsualExecution(task, settings, n, workers) for n, task in enumerate(tasks)
        ]

    def epoch(self):
        for execution in self.executions:
            execution.epoch()


if __name__ == "__main__":
    main()
