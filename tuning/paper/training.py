"""Run the trainings of the experiments on the connected Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import ray

from mianet.data.search_data import SearchData
from mianet.data.test_parts import TestParts
from mianet.errors import DivergedError
from mianet.final_training import measure
from mianet.processor import use_threads
from tuning.compute.cluster import Share
from tuning.compute.gpu_limit import run_within_share
from tuning.compute.waiting import result_of
from tuning.paper.evidence import Outcome, Training

HEARTBEAT_SECONDS = 60.0
"""How often a line says that trainings are still under way."""


def run_trainings(
    trainings: Sequence[Training], data: SearchData, test: TestParts, share: Share
) -> Iterator[tuple[Training, Outcome]]:
    """Train all, as many at once as the cluster takes; yield each as it ends.

    They start in the given order. A training whose worker dies is started again, twice at most.

    Args:
        trainings: What to train, the first first.
        data: All of trainval.
        test: The test parts.
        share: What each training gets.
    """
    data_ref, test_ref = ray.put(data), ray.put(test)
    task = ray.remote(run_within_share).options(
        num_cpus=share.cpus, num_gpus=share.gpus, max_retries=2
    )
    running = {
        task.remote(
            share.gpus, _train, data_ref, test_ref, training, share.threads, share.device
        ): training
        for training in trainings
    }
    started = time.monotonic()
    while running:
        ended, _ = ray.wait(list(running), timeout=HEARTBEAT_SECONDS)
        if not ended:
            minutes = (time.monotonic() - started) / 60
            print(f"{len(running)} trainings to go after {minutes:.0f} min", flush=True)
        for reference in ended:
            yield running.pop(reference), result_of(reference)


def _train(
    data: SearchData, test: TestParts, training: Training, threads: int, device: str
) -> Outcome:
    use_threads(threads)
    try:
        measured = measure(
            data,
            test,
            training.settings,
            epochs=training.epochs,
            seed=training.seed,
            device=device,
            keep_model=training.keep_model,
            new_classes=training.new_classes,
        )
    except DivergedError as error:
        return error
    return measured


def outcome_line(outcome: Outcome) -> str:
    """Return what came of a training, in a few words."""
    if isinstance(outcome, DivergedError):
        return f"diverged, {outcome}"
    last = outcome.curve[-1]
    return (
        f"H {100 * last.harmonic_mean:.1f}, T1 {100 * last.zsl_accuracy:.1f}, "
        f"{outcome.seconds:.0f} s"
    )
