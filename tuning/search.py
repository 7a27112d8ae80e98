"""Search MIANet's hyperparameters on a data set: ``python tuning/search.py --dataset apy``."""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from datetime import datetime
from types import MappingProxyType
from typing import Any, NoReturn

import ray

from mianet.config import VARIANTS
from mianet.data.datasets import find_dataset
from mianet.data.search_data import load_search_data
from mianet.data.sources import open_source
from tuning.analysis.insights import importance_words, sentences
from tuning.cli.command_line import (
    FAILED,
    INTERRUPTED,
    Parser,
    add_common_options,
    add_model_option,
    add_storage_option,
    assignment,
    count,
    duration,
    earlier_study,
    names,
    once,
    positive_int,
    run,
    seed,
    study_name,
    tracking_uri,
    value_range,
    writable_folder,
)
from tuning.cli.terminal import StatusLine
from tuning.compute import cluster
from tuning.compute.gpu_share import need_of_any
from tuning.confirm import DEFAULT_DRAWS
from tuning.engine import interrupts
from tuning.engine.optuna_file import OptunaFile
from tuning.engine.resumption import (
    RESUMABLE,
    as_started,
    begun,
    check_not_started,
    check_unchanged,
    kept_settings,
    new_ledger,
    nothing_left,
    old_ledger,
    resume_command,
)
from tuning.engine.samplers import SAMPLERS
from tuning.engine.stopping import SCHEDULERS
from tuning.engine.study import (
    Study,
    StudyOutcome,
    check_data,
    describe_study,
    largest_settings,
    paper_point,
    run_study,
)
from tuning.events.ledger import Ledger
from tuning.spec.models import MIANET, MODELS
from tuning.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES
from tuning.spec.space import search_space
from tuning.spec.warm_start import WarmPoint, warm_points
from tuning.tracking.recording import (
    JOURNAL_FOLDER,
    StudyRecorder,
    check_new_study,
    deliver_waiting_for,
    read_earlier_study,
    read_trials,
)
from tuning.tracking.store import URI_VARIABLE

_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "dataset": None,
        "model": MIANET,
        "data_dir": None,
        "tracking_uri": None,
        "study": None,
        "resume": None,
        "trials": 50,
        "max_epochs": 50,
        "patience": 5,
        "executions": 5,
        "time_budget": None,
        "objective": DEFAULT_OBJECTIVE,
        "sampler": "qmc",
        "scheduler": "asha",
        "seed": 0,
        "workers": None,
        "cpus_per_trial": None,
        "gpus_per_trial": None,
        "warm_start": (),
        "warm_points": (),
        "search": None,
        "range": (),
        "variant": "full",
        "set": (),
        "fresh_draws": DEFAULT_DRAWS,
        "no_final": False,
        "final_seeds": 5,
    }
)
"""Option → its value where neither the command line nor a resumed study says another."""


def main() -> NoReturn:
    """Run the command line and exit."""
    run(search)


def search() -> int:
    """Do what the command line says; return the exit code."""
    with ExitStack() as held:
        arguments, ledger = _what_to_do(held)
        study = _study(arguments)
        if ledger and nothing_left(ledger, arguments):
            print(f"study {study.name} is complete; nothing is left to do", flush=True)
            return 0
        source = open_source(arguments.dataset, arguments.data_dir)
        data = load_search_data(arguments.dataset, arguments.data_dir)
        check_data(data)
        images, features = data.features.shape
        print(
            f"{source.spec.title}: {images} trainval images of {len(data.class_names)} seen "
            f"classes, {features} features each; connecting to Ray",
            flush=True,
        )
        if ledger:
            check_unchanged(ledger, data)
        uri = tracking_uri(arguments)
        if arguments.warm_start and not ledger:
            study = _warmed(study, arguments, data.name, uri)
        where = cluster.connect()
        kept, data = cluster.keep_once(data)
        share = cluster.share_resources(
            study.trials,
            workers=arguments.workers,
            cpus_per_trial=arguments.cpus_per_trial,
            gpus_per_trial=arguments.gpus_per_trial,
            need=need_of_any(data, [largest_settings(study, data.name)], study.executions),
        )
        if not ledger:
            check_new_study(uri, data.name, study.name)
            writable_folder(arguments.storage)
            ledger = held.enter_context(new_ledger(arguments.storage, study.name))
        deliver_waiting_for(arguments.storage, uri)
        description = describe_study(study, data, source.origin, share, where)
        journal = ledger.folder / JOURNAL_FOLDER
        with (
            interrupts.watching(resume_command(arguments.storage, study.name)) as interrupt,
            begun(ledger, kept_settings(arguments, study, data, uri)),
            StudyRecorder.open(uri, description, journal, resume=True) as recorder,
            OptunaFile(
                ledger.folder,
                description,
                study.space,
                patience=study.patience,
                run_id=recorder.study_run_id,
                run_of=recorder.run_of,
            ) as optuna_file,
        ):
            print(
                f"study {study.name}: up to {study.trials} trials of {study.max_epochs} "
                f"epoch{'s' * (study.max_epochs != 1)} and {study.executions} "
                f"executions on {description.dataset_title}; the highest "
                f"{study.goal.symbol} by {study.sampler} and {study.scheduler}; "
                f"{share.workers} at once on {where}, {share.each}\n"
                f"to look at it: {recorder.location}",
                flush=True,
            )
            with StatusLine() as line:
                outcome = run_study(
                    study,
                    data.name,
                    kept,
                    share,
                    recorder,
                    ledger,
                    interrupt,
                    line,
                    [optuna_file.take],
                )
            recorder.close("interrupted" if outcome.interrupted else "finished")
        return _after(outcome, arguments, study, ledger, uri)


def _what_to_do(held: ExitStack) -> tuple[argparse.Namespace, Ledger | None]:
    """Return the options, and the ledger of the study that is to go on, if one is."""
    parser = _parser()
    given = vars(parser.parse_args())
    arguments = argparse.Namespace(**{**_DEFAULTS, **given})
    if "resume" in given:
        refused = set(given) - RESUMABLE - {"resume", "storage"}
        if refused:
            parser.error(
                "--resume keeps the settings that the study was started with, but got "
                f"{_spelt(refused)}; "
                f"only {_spelt(RESUMABLE)} can be given anew"
            )
        ledger = held.enter_context(old_ledger(arguments.storage, arguments.resume))
        return as_started(ledger, arguments.storage, given), ledger
    if "dataset" not in given:
        parser.error("the following arguments are required: --dataset")
    if arguments.study:
        check_not_started(arguments.storage, arguments.study)
    arguments.study = arguments.study or _new_name(arguments.dataset)
    return arguments, None


def _spelt(names: Collection[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names))


def _after(
    outcome: StudyOutcome,
    arguments: argparse.Namespace,
    study: Study,
    ledger: Ledger,
    uri: str,
) -> int:
    """Say how the search ended; do the final training if it ended well."""
    _print_outcome(outcome)
    if outcome.out_of_time:
        print(
            "the time budget is used up; to go on: "
            f"{resume_command(arguments.storage, study.name)} --time-budget MORE",
            flush=True,
        )
    if outcome.interrupted:
        print(
            f"interrupted; to go on: {resume_command(arguments.storage, study.name)}\n"
            "to train the best trial so far: "
            f"python tuning/final.py --dataset {arguments.dataset} --model {study.model} "
            f"--study {study.name}",
            file=sys.stderr,
        )
        return INTERRUPTED
    if not outcome.counts.get("finished", 0) + outcome.counts.get("stopped_early", 0):
        print(
            "error: no trial ended well; the reasons are recorded with the trials, and a search "
            "that ran out of time needs a larger --time-budget",
            file=sys.stderr,
        )
        _report(arguments, study.name, uri)
        return FAILED
    if outcome.nothing_tried:
        print(f"study {study.name} was searched before; what follows is left", flush=True)
    trials = read_trials(uri, find_dataset(arguments.dataset).name, study.name)
    importance = importance_words(trials, study.space)
    told = [*sentences(trials, study.space), *([importance] if importance else [])]
    print(*told, sep="\n", flush=True)
    try:
        code = _afterwards(arguments, study.name, uri)
        report = _report(arguments, study.name, uri)
    except KeyboardInterrupt:
        resume = resume_command(arguments.storage, study.name)
        print(f"interrupted after the search; to go on: {resume}", file=sys.stderr)
        return INTERRUPTED
    if code == 0:
        ledger.add_complete()
    return code or report


def _parser() -> argparse.ArgumentParser:
    """Return the parser; it yields what is given alone, so that a resumed study keeps the rest."""
    parser = Parser(
        prog="search.py",
        description=__doc__,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    add_common_options(parser, dataset_required=False)
    add_model_option(parser, default=argparse.SUPPRESS)
    parser.add_argument(
        "--resume", type=study_name, metavar="STUDY", help="go on with a study, as it was started"
    )
    budget = parser.add_argument_group("budget")
    budget.add_argument("--trials", type=positive_int, help="configurations to try")
    budget.add_argument("--max-epochs", type=positive_int, help="epochs at most")
    budget.add_argument(
        "--patience", type=positive_int, help="epochs without a new best to go on for"
    )
    budget.add_argument("--executions", type=positive_int, help="draws to average over")
    budget.add_argument("--time-budget", type=duration, help="wall time at most: 90s, 30m, 2h")
    how = parser.add_argument_group("how to search")
    how.add_argument(
        "--objective",
        choices=OBJECTIVES,
        help="what is maximised: " + "; ".join(f"{n}: {o.summary}" for n, o in OBJECTIVES.items()),
    )
    how.add_argument("--sampler", choices=SAMPLERS)
    how.add_argument("--scheduler", choices=SCHEDULERS)
    how.add_argument("--seed", type=seed, help="of draws, trainings and sampler")
    how.add_argument("--workers", type=positive_int, help="trials at once")
    how.add_argument(
        "--warm-start",
        type=earlier_study,
        nargs="+",
        metavar="STUDY",
        help="try the best configurations of earlier studies first; of another data set's as well, "
        "as DATASET/STUDY where the name alone is not enough",
    )
    what = parser.add_argument_group("what to search")
    what.add_argument(
        "--search",
        type=names,
        help="hyperparameters, with commas between them (default: the model's; for MIANet alpha, "
        "beta, gamma, learning_rate, latent_multiplier); a wrong name lists the right ones",
    )
    what.add_argument("--range", type=value_range, action="append", metavar="NAME=LOW:HIGH")
    what.add_argument("--variant", choices=VARIANTS, help="variant of the paper")
    what.add_argument(
        "--set",
        type=assignment,
        action="append",
        metavar="NAME=VALUE",
        help="fix a hyperparameter that is not searched",
    )
    after = parser.add_argument_group("afterwards")
    after.add_argument(
        "--fresh-draws",
        type=count,
        help="draws that the best trials are confirmed on; 0 to leave that out",
    )
    after.add_argument("--no-final", action="store_true", help="leave out the final training")
    after.add_argument("--final-seeds", type=positive_int, help="seeds of it")
    add_storage_option(after)
    return parser


def _study(arguments: argparse.Namespace) -> Study:
    model = MODELS[arguments.model]
    return Study(
        name=arguments.study,
        model=arguments.model,
        space=search_space(
            arguments.search,
            once("--range", arguments.range),
            table=model.space,
            settings=model.settings,
        ),
        fixed={**VARIANTS[arguments.variant], **once("--set", arguments.set)},
        trials=arguments.trials,
        max_epochs=1 if model.closed_form else arguments.max_epochs,
        patience=arguments.patience,
        executions=arguments.executions,
        seed=arguments.seed,
        sampler=arguments.sampler,
        scheduler=arguments.scheduler,
        time_budget=arguments.time_budget,
        objective=arguments.objective,
        warm=tuple(WarmPoint(**point) for point in arguments.warm_points),
    )


def _warmed(study: Study, arguments: argparse.Namespace, dataset: str, uri: str) -> Study:
    """Return the study with what earlier ones found; say what that is."""
    deliver_waiting_for(arguments.storage, uri)
    names = dict.fromkeys(arguments.warm_start)
    points = warm_points(
        [read_earlier_study(uri, name, dataset) for name in names],
        study.space,
        model=study.model,
        objective=study.goal,
        paper=paper_point(study, dataset),
    )
    taken = ", ".join(point.origin for point in points) or "nothing that is not the paper's"
    print(f"warm start: {taken}", flush=True)
    return dataclasses.replace(study, warm=tuple(points))


def _new_name(dataset: str) -> str:
    plain = "".join(c if c.isalnum() else "-" for c in dataset.lower())
    return f"{plain}-{datetime.now():%Y%m%d-%H%M%S}"


def _print_outcome(outcome: StudyOutcome) -> None:
    counts = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in outcome.counts.items())
    print(f"{sum(outcome.counts.values())} trials in {outcome.seconds:.0f} s: {counts}", flush=True)


def _afterwards(arguments: argparse.Namespace, study: str, uri: str) -> int:
    """Confirm the best trials, then train the best of them finally."""
    code = 0
    shared = {
        "--model": arguments.model,
        "--data-dir": arguments.data_dir,
        "--cpus-per-trial": arguments.cpus_per_trial,
        "--gpus-per-trial": arguments.gpus_per_trial,
    }
    if arguments.fresh_draws:
        more = {**shared, "--draws": arguments.fresh_draws}
        brief = () if arguments.no_final else ("--brief",)  # the final training says it too
        code = _command("tuning.confirm", arguments, study, uri, more, *brief)
    if code == 0 and not arguments.no_final:
        more = {**shared, "--seeds": arguments.final_seeds}
        code = _command("tuning.final", arguments, study, uri, more)
    return code


def _report(arguments: argparse.Namespace, study: str, uri: str) -> int:
    """Write the study's page, whatever there is to show."""
    return _command("tuning.study_report", arguments, study, uri, {})


def _command(
    module: str,
    arguments: argparse.Namespace,
    study: str,
    uri: str,
    more: Mapping[str, object],
    *flags: str,
) -> int:
    """Run another command on the study, in a process of its own.

    The process that searched never opens the test parts: that is left to ``tuning.final``. These
    commands read the study back from the record, as they would on another day.
    """
    options: dict[str, object] = {
        "--dataset": arguments.dataset,
        "--study": study,
        "--storage": arguments.storage,
        **more,
    }
    given = [
        text for name, value in options.items() if value is not None for text in (name, str(value))
    ]
    address = ray.get_runtime_context().gcs_address
    return subprocess.run(
        [sys.executable, "-m", module, *given, *flags],
        env={**os.environ, "RAY_ADDRESS": address, URI_VARIABLE: uri},
        check=False,
    ).returncode


if __name__ == "__main__":
    main()
