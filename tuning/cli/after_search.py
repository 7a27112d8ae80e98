"""What follows a search: its outcome in words, confirmation, final training, and the report."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping

import ray

from mianet.data.search_data import recorded_name
from tuning.cli.command_line import FAILED, INTERRUPTED
from tuning.cli.outcome import outcome as ending
from tuning.cli.resumption import resume_command
from tuning.cli.write_report import page_of
from tuning.engine.study import Study, StudyOutcome
from tuning.events.event import Completed
from tuning.events.log import EventLog
from tuning.tracking.recorded_studies import read_study
from tuning.tracking.store import URI_VARIABLE


def finish(
    outcome: StudyOutcome,
    options: argparse.Namespace,
    study: Study,
    log: EventLog,
    uri: str,
) -> int:
    """Print how a search ended, and do what follows it; return the exit code.

    Args:
        outcome: How it ended.
        options: All options of the search.
        study: What was searched.
        log: The study's; it is marked complete when everything was done.
        uri: The tracking store.
    """
    resume = resume_command(options.storage, study.name)
    _print_outcome(outcome, resume)
    if outcome.interrupted:
        print(
            f"interrupted; to go on: {resume}\n"
            "to train the best trial so far: "
            f"python tuning/final.py --dataset {shlex.quote(options.dataset)} "
            f"{shlex.join([*_embedding(options), '--model', study.model, '--study', study.name])}",
            file=sys.stderr,
        )
        return INTERRUPTED
    if not outcome.counts.get("finished", 0) + outcome.counts.get("stopped_early", 0):
        print(
            "error: no trial ended well; the reasons are recorded with the trials, and a search "
            "that ran out of time needs a larger --time-budget",
            file=sys.stderr,
        )
        _report(options, study.name, uri)
        return FAILED
    if outcome.nothing_tried:
        print(f"study {study.name} was searched before; what follows is left", flush=True)
    try:
        code = _confirm_and_train(options, study.name, uri)
        report = _report(options, study.name, uri, "--brief")
    except KeyboardInterrupt:
        print(f"interrupted after the search; to go on: {resume}", file=sys.stderr)
        return INTERRUPTED
    _print_end(options, study, uri)
    if code == 0:
        log.append(Completed())
    return code or report


def _print_outcome(outcome: StudyOutcome, resume: str) -> None:
    counts = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in outcome.counts.items())
    print(f"{sum(outcome.counts.values())} trials in {outcome.seconds:.0f} s: {counts}", flush=True)
    if outcome.out_of_time:
        print(f"the time budget is used up; to go on: {resume} --time-budget MORE", flush=True)


def _print_end(options: argparse.Namespace, study: Study, uri: str) -> None:
    dataset = recorded_name(options.dataset, options.data_dir)
    recorded = read_study(uri, dataset, study.name)
    page = page_of(options.storage, study.name)
    print(f"\n{ending(recorded, dataset, page, study.model)}", flush=True)


def _confirm_and_train(options: argparse.Namespace, study: str, uri: str) -> int:
    """Confirm the best trials, then train the best of them finally."""
    code, embedding = 0, _embedding(options)
    shared = {
        "--model": options.model,
        "--data-dir": options.data_dir,
        "--cpus-per-trial": options.cpus_per_trial,
        "--gpus-per-trial": options.gpus_per_trial,
    }
    if options.fresh_draws:
        more = {**shared, "--draws": options.fresh_draws}
        code = _command("tuning.confirm", options, study, uri, more, *embedding, "--brief")
    if code == 0 and not options.no_final:
        more = {**shared, "--seeds": options.final_seeds}
        code = _command("tuning.final", options, study, uri, more, *embedding, "--brief")
    return code


def _embedding(options: argparse.Namespace) -> list[str]:
    """Return the options that name the class embedding."""
    return [text for file in options.class_embedding for text in ("--class-embedding", file)]


def _report(options: argparse.Namespace, study: str, uri: str, *flags: str) -> int:
    """Write the study's page, whatever there is to show."""
    more = {"--data-dir": options.data_dir}
    return _command("tuning.study_report", options, study, uri, more, *flags)


def _command(
    module: str,
    options: argparse.Namespace,
    study: str,
    uri: str,
    more: Mapping[str, object],
    *flags: str,
) -> int:
    """Run another command on the study, in a process of its own; return its exit code.

    The process that searched never opens the test parts: only ``tuning.final`` does. These commands
    read the study back from MLflow, as they would on another day.

    Args:
        module: The command's module.
        options: All options of the search.
        study: Name of the study.
        uri: The tracking store.
        more: Further option → value; one with None is left out.
        flags: Further texts of the command line.
    """
    values: dict[str, object] = {
        "--dataset": options.dataset,
        "--study": study,
        "--storage": options.storage,
        **more,
    }
    given = [
        text for name, value in values.items() if value is not None for text in (name, str(value))
    ]
    address = ray.get_runtime_context().gcs_address
    return subprocess.run(
        [sys.executable, "-P", "-m", module, *given, *flags],  # -P: nothing of the current folder
        env={**os.environ, "RAY_ADDRESS": address, URI_VARIABLE: uri},
        check=False,
    ).returncode
