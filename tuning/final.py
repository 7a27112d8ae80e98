"""Train the best recorded configuration and test it: ``python tuning/final.py --dataset apy``.

The configuration is read back from MLflow, so this works on another day and on another machine.
It is the only command that opens the test parts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import ray
import torch

from mianet.config import Hyperparameters
from mianet.data import SearchData, load_search_data
from mianet.datasets import find_dataset
from mianet.errors import DivergedError
from mianet.final_training import FinalResult, train_final
from mianet.prediction import Classifier
from mianet.sources import open_source
from mianet.test_parts import TestParts, load_test_parts
from tuning import cluster
from tuning.command_line import FAILED, Parser, add_common_options, positive_int, run, tracking_uri
from tuning.progress import HEARTBEAT_SECONDS
from tuning.recording import FinalDescription, FinalRecorder, read_trials, register_model
from tuning.records import RecordedTrial
from tuning.report import Row, comparison_table
from tuning.selection import Selection, select


@dataclass(frozen=True)
class World:
    """What the final trainings of all configurations share."""

    data: SearchData
    test: TestParts
    source: str
    seeds: Sequence[int]
    share: cluster.Share


@dataclass(frozen=True)
class Tested:
    """A configuration after its final training.

    Attributes:
        trial: The recorded trial that it is from.
        figures: ``test_<figure>_mean`` and ``_sd`` over the seeds.
        run_id: The run of the final training.
        classifier: The model of the first seed; None if a seed diverged.
    """

    trial: RecordedTrial
    figures: Mapping[str, float]
    run_id: str
    classifier: Classifier | None


def main() -> NoReturn:
    """Run the command line and exit."""
    run(final)


def final() -> int:
    """Do what the command line says; return the exit code."""
    arguments = _parser().parse_args()
    source = open_source(arguments.dataset, arguments.data_dir)
    uri = tracking_uri(arguments)
    data = load_search_data(arguments.dataset, arguments.data_dir)
    trials = read_trials(uri, source.name, arguments.study)
    selection = select(trials, study=arguments.study, data_digest=data.digest)
    print(selection.why, flush=True)
    test = load_test_parts(arguments.dataset, arguments.data_dir)
    chosen = _configurations(selection)
    where = cluster.connect()
    seeds = range(arguments.seeds)
    share = cluster.share_resources(
        len(seeds) * len(chosen),
        workers=len(seeds) * len(chosen),
        cpus_per_trial=arguments.cpus_per_trial,
        gpus_per_trial=arguments.gpus_per_trial,
    )
    print(
        f"final training on all trainval images: {' and '.join(chosen)}, {len(seeds)} seeds each, "
        f"{share.workers} at once on {where}",
        flush=True,
    )
    tested = _train_and_record(chosen, World(data, test, source.origin, seeds, share), uri)
    print(_table(tested, executions=selection.trial.executions, seeds=len(seeds)), flush=True)
    return _register(tested["selected"], uri, data)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="final.py", description=__doc__, allow_abbrev=False)
    add_common_options(parser)
    parser.add_argument("--seeds", type=positive_int, default=5, help="trainings to average over")
    return parser


def _configurations(selection: Selection) -> dict[str, RecordedTrial]:
    """Return role → trial: the selected one, and the paper's where that is another."""
    if selection.paper is None or selection.paper == selection.trial:
        return {"selected": selection.trial}
    return {"paper": selection.paper, "selected": selection.trial}


def _train_and_record(
    chosen: Mapping[str, RecordedTrial], world: World, uri: str
) -> dict[str, Tested]:
    """Train every configuration with every seed, all at once as far as the cluster goes."""
    data, test = ray.put(world.data), ray.put(world.test)
    running = {role: _start(trial, world, data, test) for role, trial in chosen.items()}
    tested = {}
    for role, trial in chosen.items():
        with FinalRecorder.open(uri, _describe(role, trial, world)) as recorder:
            results = []
            for seed, reference in zip(world.seeds, running[role], strict=True):
                result = _awaited(reference, f"{role}, seed {seed}")
                results.append(result)
                print(f"{role}, seed {seed}: {_outcome(result)}", flush=True)
                if isinstance(result, FinalResult):
                    recorder.seed_finished(result.metrics.as_dict("test_"))
            diverged = [str(r) for r in results if isinstance(r, DivergedError)]
            figures = recorder.close("failed" if diverged else "finished", note="; ".join(diverged))
        models = [r.classifier for r in results if isinstance(r, FinalResult)]
        first = None if diverged else models[0]
        tested[role] = Tested(trial, figures, recorder.run_id, first)
    return tested


def _start(
    trial: RecordedTrial, world: World, data: ray.ObjectRef, test: ray.ObjectRef
) -> list[ray.ObjectRef]:
    share = world.share
    task = ray.remote(_train_one).options(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=2)
    settings = Hyperparameters.from_mapping(trial.hyperparameters)
    return [
        task.remote(data, test, settings, trial.best_epoch, seed, share.cpus, share.device)
        for seed in world.seeds
    ]


def _train_one(
    data: SearchData,
    test: TestParts,
    settings: Hyperparameters,
    epochs: int,
    seed: int,
    threads: int,
    device: str,
) -> FinalResult | DivergedError:
    torch.set_num_threads(threads)
    try:
        return train_final(data, test, settings, epochs=epochs, seed=seed, device=device)
    except DivergedError as error:
        return error


def _awaited(reference: ray.ObjectRef, what: str) -> FinalResult | DivergedError:
    """Wait for a training, with a sign of life now and then."""
    started = time.monotonic()
    while not ray.wait([reference], timeout=HEARTBEAT_SECONDS)[0]:
        print(f"{what}: training, {time.monotonic() - started:.0f} s", flush=True)
    result: FinalResult | DivergedError = ray.get(reference)
    return result


def _outcome(result: FinalResult | DivergedError) -> str:
    if isinstance(result, DivergedError):
        return f"diverged, {result}"
    return f"test H {100 * result.metrics.harmonic_mean:.2f}"


def _describe(role: str, trial: RecordedTrial, world: World) -> FinalDescription:
    images, feature_dim = world.data.features.shape
    return FinalDescription(
        role=role,
        dataset=world.data.name,
        dataset_title=find_dataset(world.data.name).spec.title,
        data_digest=world.data.digest,
        data_source=world.source,
        data_shape={"rows": images, "feature_dim": feature_dim},
        hyperparameters=Hyperparameters.from_mapping(trial.hyperparameters).as_dict(),
        epochs=trial.best_epoch,
        seeds=list(world.seeds),
        study=trial.study,
        study_run_id=trial.study_run_id,
        source_run_id=trial.run_id,
        protocol=trial.protocol,
        settings={"cpus": world.share.cpus, "gpus": world.share.gpus},
        device=world.share.device,
    )


def _table(tested: Mapping[str, Tested], *, executions: int, seeds: int) -> str:
    rows = [
        Row(
            name=f"{role} (trial {one.trial.number})",
            epochs=one.trial.best_epoch,
            validation=_renamed(one.trial.metrics, "val_"),
            test=_renamed(one.figures, "test_"),
        )
        for role, one in tested.items()
    ]
    return comparison_table(rows, executions=executions, seeds=seeds)


def _renamed(figures: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): value for name, value in figures.items()}


def _register(selected: Tested, uri: str, data: SearchData) -> int:
    """Register the model of the first seed: picking the best seed by test would be cheating."""
    if selected.classifier is None:
        print("error: the selected configuration diverged; no model is registered", file=sys.stderr)
        return FAILED
    model = register_model(
        uri,
        run_id=selected.run_id,
        dataset=data.name,
        classifier=selected.classifier,
        example=data.features[:2],
    )
    print(f"registered {model.name} version {model.version} as champion: {model.uri}", flush=True)
    return 0


if __name__ == "__main__":
    main()
