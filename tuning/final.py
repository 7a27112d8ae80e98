"""Train the best recorded configuration and test it: ``python tuning/final.py --dataset apy``.

The configuration is read back from MLflow, so this works on another day and on another machine.
It is the only command that opens the test parts.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import ray
import torch

from mianet.calibration import (
    Calibration,
    SeenUnseenCurve,
    at_constant,
    choose_constant,
    seen_unseen_curve,
    validation_curve,
)
from mianet.config import Hyperparameters, Settings
from mianet.data import SearchData, load_search_data
from mianet.datasets import find_dataset
from mianet.errors import DivergedError, InputError
from mianet.final_training import FinalResult, train_final
from mianet.prediction import Classifier
from mianet.sources import open_source
from mianet.test_parts import TestParts, load_test_parts
from tuning import cluster
from tuning.command_line import (
    FAILED,
    Parser,
    add_common_options,
    add_model_option,
    add_storage_option,
    positive_int,
    run,
    tracking_uri,
)
from tuning.models import MIANET, MODELS, read_settings
from tuning.recording import (
    FinalDescription,
    FinalRecorder,
    deliver_waiting_for,
    read_trials,
    register_model,
)
from tuning.records import RecordedTrial
from tuning.report import Row, comparison_table
from tuning.selection import Selection, select
from tuning.waiting import awaited

CALIBRATED = "calibrated_"
"""What a test figure under the chosen calibration is called, before its name."""


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
        diverged: Whether a seed did.
        classifier: The model of the first seed; None if a seed diverged, or for a model that is
            there to compare with.
        calibration: What was chosen for it on validation, if it was asked for.
    """

    trial: RecordedTrial
    figures: Mapping[str, float]
    run_id: str
    diverged: bool
    classifier: Classifier | None
    calibration: Calibration | None = None


def main() -> NoReturn:
    """Run the command line and exit."""
    run(final)


def final() -> int:
    """Do what the command line says; return the exit code."""
    arguments = _parser().parse_args()
    if arguments.calibrate and arguments.model != MIANET:
        raise InputError(
            f"--calibrate must be of {MIANET}, the model that is registered, but got --model "
            f"{arguments.model}; leave it out"
        )
    source = open_source(arguments.dataset, arguments.data_dir)
    uri = tracking_uri(arguments)
    data = load_search_data(arguments.dataset, arguments.data_dir)
    deliver_waiting_for(arguments.storage, uri)
    trials = read_trials(uri, source.name, arguments.study)
    selection = select(
        trials, study=arguments.study, data_digest=data.digest, model=arguments.model
    )
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
    calibrations = (
        {"selected": _calibrate(data, selection.trial, share)} if arguments.calibrate else {}
    )
    world = World(data, test, source.origin, seeds, share)
    tested = _train_and_record(chosen, calibrations, world, uri, arguments.storage)
    print(_table(tested, executions=selection.trial.executions, seeds=len(seeds)), flush=True)
    if arguments.model == MIANET:
        return _register(tested["selected"], uri, data)
    return FAILED if tested["selected"].diverged else 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="final.py", description=__doc__, allow_abbrev=False)
    add_common_options(parser)
    add_model_option(parser)
    add_storage_option(parser)
    parser.add_argument("--seeds", type=positive_int, default=5, help="trainings to average over")
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="choose a constant on validation to take off seen classes' scores; test without and "
        "with it, and register the model with it",
    )
    return parser


def _configurations(selection: Selection) -> dict[str, RecordedTrial]:
    """Return role → trial: the selected one, and the paper's where that is another."""
    if selection.paper is None or selection.paper == selection.trial:
        return {"selected": selection.trial}
    return {"paper": selection.paper, "selected": selection.trial}


def _calibrate(data: SearchData, trial: RecordedTrial, share: cluster.Share) -> Calibration:
    """Choose the constant on the validation executions that the trial was scored on."""
    task = ray.remote(_validate_one).options(
        num_cpus=share.cpus, num_gpus=share.gpus, max_retries=2
    )
    shared = ray.put(data)
    running = [task.remote(shared, trial, k, share) for k in range(trial.executions)]
    curves = []
    for execution, reference in enumerate(running):
        curve: SeenUnseenCurve | DivergedError = awaited(reference, f"calibration, {execution}")
        if isinstance(curve, DivergedError):
            raise InputError(
                "the selected configuration must train again as it was recorded, but execution "
                f"{execution} diverged ({curve}); leave out --calibrate"
            )
        curves.append(curve)
    chosen, plain = choose_constant(curves), at_constant(curves, 0.0)
    print(
        f"calibration: {chosen.constant:.4f} off seen classes' scores, chosen on {len(curves)} "
        f"validation executions: H {100 * plain.harmonic_mean:.1f} without, "
        f"{100 * chosen.harmonic_mean:.1f} with, AUSUC {100 * chosen.area:.1f}",
        flush=True,
    )
    return chosen


def _validate_one(
    data: SearchData, trial: RecordedTrial, execution: int, share: cluster.Share
) -> SeenUnseenCurve | DivergedError:
    torch.set_num_threads(share.cpus)
    try:
        return validation_curve(
            data,
            Hyperparameters.from_mapping(trial.hyperparameters),
            epochs=trial.best_epoch,
            execution=execution,
            seed=int(trial.protocol["seed"]),
            device=share.device,
        )
    except DivergedError as error:
        return error


def _train_and_record(
    chosen: Mapping[str, RecordedTrial],
    calibrations: Mapping[str, Calibration],
    world: World,
    uri: str,
    storage: Path,
) -> dict[str, Tested]:
    """Train every configuration with every seed, all at once as far as the cluster goes."""
    data, test = ray.put(world.data), ray.put(world.test)
    running = {role: _start(trial, world, data, test) for role, trial in chosen.items()}
    tested = {}
    for role, trial in chosen.items():
        calibration = calibrations.get(role)
        with FinalRecorder.open(
            uri, _describe(role, trial, calibration, world), storage
        ) as recorder:
            results = []
            for seed, reference in zip(world.seeds, running[role], strict=True):
                result: FinalResult | DivergedError = awaited(reference, f"{role}, seed {seed}")
                results.append(result)
                print(f"{role}, seed {seed}: {_outcome(result)}", flush=True)
                if isinstance(result, FinalResult):
                    recorder.seed_finished(_figures(result, world.test, calibration))
            diverged = [str(r) for r in results if isinstance(r, DivergedError)]
            figures = recorder.close("failed" if diverged else "finished", note="; ".join(diverged))
        models = [r.classifier for r in results if isinstance(r, FinalResult)]
        first = None if diverged else models[0]
        tested[role] = Tested(trial, figures, recorder.run_id, bool(diverged), first, calibration)
    return tested


def _figures(
    result: FinalResult, test: TestParts, calibration: Calibration | None
) -> dict[str, float]:
    """Return a seed's test figures: plain, and where a constant was chosen, with it too."""
    figures = result.metrics.as_dict("test_")
    if calibration is None or result.classifier is None:
        return figures
    curve = seen_unseen_curve(
        result.classifier.predict(test.test_seen_features),
        test.test_seen_labels,
        result.classifier.predict(test.test_unseen_features),
        test.test_unseen_labels,
        result.classifier.unseen,
    )
    with_constant = _as_figures(at_constant([curve], calibration.constant))
    renamed = {f"{CALIBRATED}test_{name}": value for name, value in with_constant.items()}
    return figures | renamed | {"test_ausuc": curve.area}


def _as_figures(calibration: Calibration) -> dict[str, float]:
    """Return what a constant decides; T1 does not depend on it."""
    names = ("unseen_accuracy", "seen_accuracy", "harmonic_mean")
    return {name: getattr(calibration, name) for name in names}


def _start(
    trial: RecordedTrial, world: World, data: ray.ObjectRef, test: ray.ObjectRef
) -> list[ray.ObjectRef]:
    share = world.share
    task = ray.remote(_train_one).options(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=2)
    settings = read_settings(trial.hyperparameters)
    return [
        task.remote(data, test, settings, trial.best_epoch, seed, share.cpus, share.device)
        for seed in world.seeds
    ]


def _train_one(
    data: SearchData,
    test: TestParts,
    settings: Settings,
    epochs: int,
    seed: int,
    threads: int,
    device: str,
) -> FinalResult | DivergedError:
    torch.set_num_threads(threads)
    try:
        return train_final(
            data,
            test,
            settings,
            epochs=epochs,
            seed=seed,
            device=device,
            begin=MODELS[settings.model].begin,
        )
    except DivergedError as error:
        return error


def _outcome(result: FinalResult | DivergedError) -> str:
    if isinstance(result, DivergedError):
        return f"diverged, {result}"
    return f"test H {100 * result.metrics.harmonic_mean:.2f}"


def _describe(
    role: str, trial: RecordedTrial, calibration: Calibration | None, world: World
) -> FinalDescription:
    images, feature_dim = world.data.features.shape
    return FinalDescription(
        role=role,
        dataset=world.data.name,
        dataset_title=find_dataset(world.data.name).spec.title,
        data_digest=world.data.digest,
        data_source=world.source,
        data_shape={"rows": images, "feature_dim": feature_dim},
        hyperparameters=read_settings(trial.hyperparameters).as_dict(),
        epochs=trial.best_epoch,
        seeds=list(world.seeds),
        study=trial.study,
        study_run_id=trial.study_run_id,
        source_run_id=trial.run_id,
        protocol=trial.protocol,
        settings={
            "cpus": world.share.cpus,
            "gpus": world.share.gpus,
            **({"calibration": dataclasses.asdict(calibration)} if calibration else {}),
        },
        device=world.share.device,
    )


def _table(tested: Mapping[str, Tested], *, executions: int, seeds: int) -> str:
    rows = []
    for role, one in tested.items():
        row = Row(
            name=f"{role} (trial {one.trial.number})",
            epochs=one.trial.best_epoch,
            validation=_renamed(one.trial.metrics, "val_"),
            fresh=_fresh(one.trial),
            test=_renamed(one.figures, "test_"),
        )
        rows.append(row)
        if one.calibration:
            rows.append(_calibrated(row, one.calibration, one.figures))
    return comparison_table(rows, executions=executions, seeds=seeds)


def _fresh(trial: RecordedTrial) -> tuple[float, ...]:
    return tuple(trial.confirmation.per_draw.values()) if trial.confirmation else ()


def _calibrated(row: Row, calibration: Calibration, figures: Mapping[str, float]) -> Row:
    return dataclasses.replace(
        row,
        name=f"calibrated by {calibration.constant:.3f}",
        validation={**row.validation, **_as_figures(calibration)},
        test={**row.test, **_renamed(figures, f"{CALIBRATED}test_")},
    )


def _renamed(figures: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): value for name, value in figures.items()}


def _register(selected: Tested, uri: str, data: SearchData) -> int:
    """Register the model of the first seed: picking the best seed by test would be cheating."""
    if selected.classifier is None:
        print("error: the selected configuration diverged; no model is registered", file=sys.stderr)
        return FAILED
    constant = selected.calibration.constant if selected.calibration else 0.0
    model = register_model(
        uri,
        run_id=selected.run_id,
        dataset=data.name,
        classifier=dataclasses.replace(selected.classifier, calibration=constant),
        example=data.features[:2],
    )
    print(f"registered {model.name} version {model.version} as champion: {model.uri}", flush=True)
    return 0


if __name__ == "__main__":
    main()
