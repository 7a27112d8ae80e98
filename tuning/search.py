"""Search MIANet's hyperparameters on a data set: ``python tuning/search.py --dataset apy``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import ray

from mianet.config import VARIANTS
from mianet.data import load_search_data
from mianet.sources import open_source
from tuning import cluster
from tuning.algorithms import SAMPLERS, SCHEDULERS
from tuning.command_line import (
    FAILED,
    INTERRUPTED,
    Parser,
    absolute_path,
    add_common_options,
    assignment,
    duration,
    names,
    positive_int,
    run,
    seed,
    tracking_uri,
    value_range,
    writable_folder,
)
from tuning.recording import StudyRecorder, check_new_study
from tuning.space import DEFAULT_SEARCHED, SEARCH_SPACE, search_space
from tuning.study import Study, StudyOutcome, check_data, describe_study, run_study


def main() -> NoReturn:
    """Run the command line and exit."""
    run(search)


def search() -> int:
    """Do what the command line says; return the exit code."""
    arguments = _parser().parse_args()
    study = _study(arguments)
    source = open_source(arguments.dataset, arguments.data_dir)
    data = load_search_data(arguments.dataset, arguments.data_dir)
    check_data(data)
    images, features = data.features.shape
    print(
        f"{source.spec.title}: {images} trainval images of {len(data.class_names)} seen classes, "
        f"{features} features each; connecting to Ray",
        flush=True,
    )
    where = cluster.connect()
    share = cluster.share_resources(
        study.trials,
        workers=arguments.workers,
        cpus_per_trial=arguments.cpus_per_trial,
        gpus_per_trial=arguments.gpus_per_trial,
    )
    uri = tracking_uri(arguments)
    check_new_study(uri, data.name, study.name)
    writable_folder(arguments.storage)
    description = describe_study(study, data, source.origin, share, where)
    with StudyRecorder.open(uri, description) as recorder:
        print(
            f"study {study.name}: up to {study.trials} trials of {study.max_epochs} epochs and "
            f"{study.executions} executions on {description.dataset_title}; {study.sampler} and "
            f"{study.scheduler}; {share.workers} at once on {where}, "
            f"{share.cpus} CPU and {share.gpus:g} GPU each\n"
            f"to look at it: {recorder.location}",
            flush=True,
        )
        outcome = run_study(study, data, share, recorder, arguments.storage)
        recorder.close("interrupted" if outcome.interrupted else "finished")
    _print_outcome(outcome)
    if outcome.interrupted:
        print(
            "interrupted; to train the best trial so far: "
            f"python tuning/final.py --dataset {arguments.dataset} --study {study.name}",
            file=sys.stderr,
        )
        return INTERRUPTED
    if not outcome.counts.get("finished", 0) + outcome.counts.get("stopped_early", 0):
        print(
            "error: no trial ended well; the reasons are recorded with the trials, and a search "
            "that ran out of time needs a larger --time-budget",
            file=sys.stderr,
        )
        return FAILED
    return 0 if arguments.no_final else _final(arguments, study.name, uri)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="search.py", description=__doc__, allow_abbrev=False)
    add_common_options(parser)
    parser.set_defaults(study=None)
    budget = parser.add_argument_group("budget")
    budget.add_argument("--trials", type=positive_int, default=50, help="configurations to try")
    budget.add_argument("--max-epochs", type=positive_int, default=50, help="epochs at most")
    budget.add_argument(
        "--patience", type=positive_int, default=10, help="epochs without a new best to go on for"
    )
    budget.add_argument("--executions", type=positive_int, default=5, help="draws to average over")
    budget.add_argument("--time-budget", type=duration, help="wall time at most: 90s, 30m, 2h")
    how = parser.add_argument_group("how to search")
    how.add_argument("--sampler", choices=SAMPLERS, default="tpe")
    how.add_argument("--scheduler", choices=SCHEDULERS, default="asha")
    how.add_argument("--seed", type=seed, default=0, help="of draws, trainings and sampler")
    how.add_argument("--workers", type=positive_int, help="trials at once")
    what = parser.add_argument_group("what to search")
    what.add_argument(
        "--search",
        type=names,
        default=DEFAULT_SEARCHED,
        help=f"hyperparameters, among {', '.join(SEARCH_SPACE)} (default: the first five)",
    )
    what.add_argument(
        "--range", type=value_range, action="append", default=[], metavar="NAME=LOW:HIGH"
    )
    what.add_argument("--variant", choices=VARIANTS, default="full", help="variant of the paper")
    what.add_argument(
        "--set",
        type=assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="fix a hyperparameter that is not searched",
    )
    after = parser.add_argument_group("afterwards")
    after.add_argument("--no-final", action="store_true", help="leave out the final training")
    after.add_argument("--final-seeds", type=positive_int, default=5, help="seeds of it")
    after.add_argument(
        "--storage",
        type=absolute_path,
        default=Path("ray_results").absolute(),
        help="folder for Ray Tune's state (default: ./ray_results)",
    )
    return parser


def _study(arguments: argparse.Namespace) -> Study:
    return Study(
        name=arguments.study or _new_name(arguments.dataset),
        space=search_space(arguments.search, dict(arguments.range)),
        fixed={**VARIANTS[arguments.variant], **dict(arguments.set)},
        trials=arguments.trials,
        max_epochs=arguments.max_epochs,
        patience=arguments.patience,
        executions=arguments.executions,
        seed=arguments.seed,
        sampler=arguments.sampler,
        scheduler=arguments.scheduler,
        time_budget=arguments.time_budget,
    )


def _new_name(dataset: str) -> str:
    plain = "".join(c if c.isalnum() else "-" for c in dataset.lower())
    return f"{plain}-{datetime.now():%Y%m%d-%H%M%S}"


def _print_outcome(outcome: StudyOutcome) -> None:
    counts = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in outcome.counts.items())
    print(f"{sum(outcome.counts.values())} trials in {outcome.seconds:.0f} s: {counts}", flush=True)


def _final(arguments: argparse.Namespace, study: str, uri: str) -> int:
    """Train the best recorded configuration, in a process of its own.

    The process that searched never opens the test parts: that is left to ``tuning.final``, which
    reads the configuration back from the record, as it would on another day.
    """
    options: dict[str, object] = {
        "--dataset": arguments.dataset,
        "--data-dir": arguments.data_dir,
        "--tracking-uri": uri,
        "--study": study,
        "--seeds": arguments.final_seeds,
        "--cpus-per-trial": arguments.cpus_per_trial,
        "--gpus-per-trial": arguments.gpus_per_trial,
    }
    given = [
        text for name, value in options.items() if value is not None for text in (name, str(value))
    ]
    address = ray.get_runtime_context().gcs_address
    return subprocess.run(
        [sys.executable, "-m", "tuning.final", *given],
        env={**os.environ, "RAY_ADDRESS": address},
        check=False,
    ).returncode


if __name__ == "__main__":
    main()
