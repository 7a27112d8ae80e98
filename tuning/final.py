"""Train the best recorded configuration and test it: ``python tuning/final.py --dataset apy``.

The configuration is read back from MLflow, so this works on another day and on another machine.
It is the only command that opens the test parts.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import ray

from mianet.calibration import (
    Calibration,
    SeenUnseenCurve,
    at_constant,
    choose_constant,
    validation_curve,
)
from mianet.config import Hyperparameters, Settings
from mianet.data.datasets import find_dataset
from mianet.data.search_data import SearchData, load_search_data
from mianet.data.sources import open_source
from mianet.data.test_parts import TestParts, load_test_parts
from mianet.errors import DivergedError, InputError
from mianet.final_training import FinalResult, train_final
from mianet.inference.prediction import Classifier
from mianet.processor import use_threads
from tuning.analysis.outcome_table import Row, comparison_table
from tuning.analysis.selection import Selection, select
from tuning.cli.command_line import (
    FAILED,
    Parser,
    add_common_options,
    add_model_option,
    add_storage_option,
    positive_int,
    run,
    tracking_uri,
)
from tuning.cli.terminal import StatusLine
from tuning.compute import cluster
from tuning.compute.gpu_share import Need, most, need_of
from tuning.compute.waiting import Tasks, Timed
from tuning.spec.final_files import CONFUSION_FILE, CURVE_FILE, confusion_text, curves_text
from tuning.spec.models import MIANET, MODELS, read_settings
from tuning.spec.records import COMPUTE_SECONDS, RecordedTrial
from tuning.tracking.recording import (
    FinalDescription,
    FinalRecorder,
    deliver_waiting_for,
    read_trials,
    register_model,
)

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
        need=_need(chosen.values(), data, test),
    )
    print(
        f"final training on all trainval images: {' and '.join(chosen)}, {len(seeds)} seeds each, "
        f"{share.workers} at once on {where}, {share.each}",
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


def _need(trials: Iterable[RecordedTrial], data: SearchData, test: TestParts) -> Need | None:
    """Return what a final training needs of a GPU's memory: all images, all classes."""
    classes, attribute_dim = test.class_attributes.shape
    needs = [
        need_of(
            read_settings(trial.hyperparameters),
            images=len(data.labels) + len(test.test_seen_labels) + len(test.test_unseen_labels),
            feature_dim=data.features.shape[1],
            attribute_dim=attribute_dim,
            classes=classes,
        )
        for trial in trials
    ]
    return most(needs)


def _calibrate(data: SearchData, trial: RecordedTrial, share: cluster.Share) -> Calibration:
    """Choose the constant on the validation executions that the trial was scored on."""
    shared = ray.put(data)
    curves = []
    with StatusLine() as line:
        tasks = Tasks("calibration", share, line)
        executions = range(trial.executions)
        running = [tasks.start(_validate_one, shared, trial, k, share) for k in executions]
        for execution, reference in enumerate(running):
            curve = tasks.awaited(reference, f"calibration, {execution}").result
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
    use_threads(share.threads)
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
    tested = {}
    with StatusLine() as line:
        tasks = Tasks("final training", world.share, line)
        running = {role: _start(trial, world, data, test, tasks) for role, trial in chosen.items()}
        for role, trial in chosen.items():
            calibration = calibrations.get(role)
            description = _describe(role, trial, calibration, world)
            with FinalRecorder.open(uri, description, storage) as recorder:
                timed = []
                for seed, reference in zip(world.seeds, running[role], strict=True):
                    timed.append(tasks.awaited(reference, f"{role}, seed {seed}"))
                    result: FinalResult | DivergedError = timed[-1].result
                    line.say(f"{role}, seed {seed}: {_outcome(result)}")
                    if isinstance(result, FinalResult):
                        recorder.seed_finished(_figures(result, calibration))
                figures = _end(timed, world, recorder)
            results = [one.result for one in timed]
            diverged = any(isinstance(result, DivergedError) for result in results)
            first = None if diverged else results[0].classifier
            tested[role] = Tested(trial, figures, recorder.run_id, diverged, first, calibration)
    return tested


def _end(timed: Sequence[Timed], world: World, recorder: FinalRecorder) -> dict[str, float]:
    """Record what belongs to all seeds, and end the run; return mean and deviation of figures."""
    by_seed = {seed: one.result for seed, one in zip(world.seeds, timed, strict=True)}
    trained = {seed: r for seed, r in by_seed.items() if isinstance(r, FinalResult)}
    diverged = [str(r) for r in by_seed.values() if isinstance(r, DivergedError)]
    if trained:
        names, unseen_classes = world.test.class_names, set(world.test.unseen_classes.tolist())
        confusion = np.sum([result.confusion for result in trained.values()], axis=0)
        unseen = [position in unseen_classes for position in range(len(names))]
        recorder.add_file(CONFUSION_FILE, confusion_text(confusion, names, unseen))
        recorder.add_file(CURVE_FILE, curves_text({s: r.curve for s, r in trained.items()}))
    return recorder.close(
        "failed" if diverged else "finished",
        note="; ".join(diverged),
        summary={COMPUTE_SECONDS: sum(one.seconds for one in timed)},
    )


def _figures(result: FinalResult, calibration: Calibration | None) -> dict[str, float]:
    """Return a seed's test figures: plain, and where a constant was chosen, with it too."""
    figures = result.metrics.as_dict("test_") | {"test_ausuc": result.curve.area}
    if calibration is None:
        return figures
    with_constant = _as_figures(at_constant([result.curve], calibration.constant))
    return figures | {f"{CALIBRATED}test_{name}": v for name, v in with_constant.items()}


def _as_figures(calibration: Calibration) -> dict[str, float]:
    """Return what a constant decides; T1 does not depend on it."""
    names = ("unseen_accuracy", "seen_accuracy", "harmonic_mean")
    return {name: getattr(calibration, name) for name in names}


def _start(
    trial: RecordedTrial, world: World, data: ray.ObjectRef, test: ray.ObjectRef, tasks: Tasks
) -> list[ray.ObjectRef]:
    settings, epochs, share = read_settings(trial.hyperparameters), trial.best_epoch, world.share
    return [
        tasks.start(_train_one, data, test, settings, epochs, seed, share.threads, share.device)
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
    use_threads(threads)
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
        objective=trial.objective,
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
    symbol = tested["selected"].trial.symbol
    return comparison_table(rows, executions=executions, seeds=seeds, symbol=symbol)


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
