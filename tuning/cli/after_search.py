"""What follows a search: its outcome in words, confirmation, final training, and the report."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys

import ray

from mianet.data.search_data import recorded_name
from tuning.cli.command_line import FAILED, INTERRUPTED
from tuning.cli.outcome import outcome as ending
from tuning.cli.resumption import resume_command
from tuning.cli.write_report import report_path
from tuning.engine.running import StudyOutcome
from tuning.engine.study import Study
from tuning.events.event import Completed
from tuning.events.log import EventLog
from tuning.tracking.address import URI_VARIABLE
from tuning.tracking.reading import read_study


def finish(
    outcome: StudyOutcome, options: argparse.Namespace, study: Study, log: EventLog, uri: str
) -> int:
    """Print how a search ended, and do what follows it; return the exit code.

    Args:
        outcome: How it ended.
        options: All options of the search.
        study: What was searched.
        log: The study's log; it is marked complete once everything is done.
        uri: The tracking store.
    """
    resume = resume_command(options.storage, study.name)
    counts = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in outcome.counts.items())
    print(f"{sum(outcome.counts.values())} trials in {outcome.seconds:.0f} s: {counts}", flush=True)
    if outcome.out_of_time:
        print(f"the time budget is used up; to continue: {resume} --time-budget MORE", flush=True)
    if outcome.interrupted:
        about = ["--dataset", options.dataset, *_embedding_flags(options), "--model", study.model]
        print(
            f"interrupted; to continue: {resume}\n"
            "to train the best trial so far: "
            f"{shlex.join(['python', 'tuning/final.py', *about, '--study', study.name])}",
            file=sys.stderr,
        )
        return INTERRUPTED
    if not outcome.counts.get("finished", 0) + outcome.counts.get("stopped_early", 0):
        print(
            "error: no trial completed successfully; the reasons are recorded with the trials; if "
            "the search ran out of time, increase --time-budget",
            file=sys.stderr,
        )
        _report(options, study.name, uri)
        return FAILED
    if outcome.nothing_tried:
        print(
            f"all trials of study {study.name} have ended; continuing with the remaining steps",
            flush=True,
        )
    try:
        code = _confirm_and_train(options, study.name, uri)
        report = _report(options, study.name, uri, "--brief")
    except KeyboardInterrupt:
        print(f"interrupted after the search; to continue: {resume}", file=sys.stderr)
        return INTERRUPTED
    dataset = recorded_name(options.dataset, options.data_dir)
    recorded, page = read_study(uri, dataset, study.name), report_path(options.storage, study.name)
    print(f"\n{ending(recorded, dataset, page, study.model)}", flush=True)
    if code == 0:
        log.append(Completed())
    return code or report


def _confirm_and_train(options: argparse.Namespace, study: str, uri: str) -> int:
    code, shared = 0, [*_embedding_flags(options), "--model", options.model, "--brief"]
    for name in ("cpus_per_trial", "gpus_per_trial"):
        if (value := getattr(options, name)) is not None:
            shared += [f"--{name.replace('_', '-')}", str(value)]
    if options.fresh_draws:
        draws = ("--draws", str(options.fresh_draws))
        code = _run_command("tuning.confirm", options, study, uri, *shared, *draws)
    if code == 0 and not options.no_final:
        seeds = ("--seeds", str(options.final_seeds))
        code = _run_command("tuning.final", options, study, uri, *shared, *seeds)
    return code


def _embedding_flags(options: argparse.Namespace) -> list[str]:
    return [text for file in options.class_embedding for text in ("--class-embedding", file)]


def _report(options: argparse.Namespace, study: str, uri: str, *flags: str) -> int:
    return _run_command("tuning.study_report", options, study, uri, *flags)


def _run_command(module: str, options: argparse.Namespace, study: str, uri: str, *more: str) -> int:
    """Run another command on the study, in its own process; return its exit code.

    The process that searched never opens the test parts: only ``tuning.final`` does. These commands
    read the study back from MLflow, just as if run separately.
    """
    data_dir = ("--data-dir", options.data_dir) if options.data_dir else ()
    about = ("--dataset", options.dataset, "--study", study, "--storage", options.storage)
    address = ray.get_runtime_context().gcs_address
    return subprocess.run(
        # -P: import nothing from the current folder
        [sys.executable, "-P", "-m", module, *map(str, (*about, *data_dir)), *more],
        env={**os.environ, "RAY_ADDRESS": address, URI_VARIABLE: uri},
        check=False,
    ).returncode
