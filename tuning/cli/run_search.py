"""A search on the connected Ray, and what follows it."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import ray

from mianet.data.search_data import SearchData
from mianet.data.sources import Source
from tuning.cli.options import writable_folder
from tuning.cli.resumption import check_unchanged, new_log, resume_command, resume_settings
from tuning.cli.terminal import wrapped
from tuning.compute import cluster
from tuning.compute.display import StatusLine
from tuning.compute.gpu_share import largest_settings, search_need
from tuning.engine import interrupts
from tuning.engine.description import describe_study
from tuning.engine.execution_table import record_executions
from tuning.engine.running import run_study
from tuning.engine.study import Study, base_settings, paper_point
from tuning.events.log import EventLog
from tuning.events.projector import Projector
from tuning.spec.records import StudyDescription, counted
from tuning.spec.warm_start import warm_points
from tuning.tracking.backlog import deliver_waiting_for
from tuning.tracking.experiments import Links
from tuning.tracking.optuna_projection import OptunaProjection
from tuning.tracking.reading import check_new_study, read_earlier_study
from tuning.tracking.recording import Recording, recorded_files


def run_search(
    options: argparse.Namespace,
    study: Study,
    opened: tuple[Source, SearchData],
    uri: str,
    where: str,
    log: EventLog | None,
) -> int:
    """Run a search on the connected Ray, and what follows it; return the exit code.

    Args:
        options: All options.
        study: The study that they define.
        opened: The data set and what a search may see of it.
        uri: The tracking store.
        where: The cluster in words.
        log: The log of the study, if it was started before.
    """
    source, data = opened
    if log:
        check_unchanged(log, data, study)
    elif options.warm_start:
        deliver_waiting_for(options.storage, uri)
        study = _warm_started(study, options.warm_start, data.name, uri)
    options.dataset = source.address  # the same when resumed from another folder
    data_ref = ray.put(data)  # one copy per node, …
    data = ray.get(data_ref)  # … and no second one here, such as the pages of a mapped file
    largest = largest_settings(base_settings(study, data.name), study.space)
    share = cluster.share_resources(
        study.trials,
        workers=options.workers,
        cpus_per_trial=options.cpus_per_trial,
        gpus_per_trial=options.gpus_per_trial,
        need=search_need(data, [largest], study.executions),
    )
    description = describe_study(study, data, source.origin, share, where)
    with ExitStack() as stack:
        if not log:
            check_new_study(uri, data.name, study.name)
            writable_folder(options.storage)
            log = stack.enter_context(new_log(options.storage, study.name))
        deliver_waiting_for(options.storage, uri)
        with (
            interrupts.watching(resume_command(options.storage, study.name)) as interrupt,
            _recorded(options, study, data, description, log, uri, share.device) as recording,
            StatusLine() as line,
        ):
            shared = f"{share.workers} at once on {where}, {share.each}"
            _print_start(study, description, shared, recording.links)
            outcome = run_study(study, data.name, data_ref, share, log, interrupt, line)
        with recorded_files(uri, recording.run_id) as folder:
            record_executions((event for event, _ in log.read()), folder)
        # Loads what tables and reports need, so that the first trial need not wait for it.
        from tuning.cli.after_search import finish

        return finish(outcome, options, study, log, uri)


def _warm_started(study: Study, earlier: list[str], dataset: str, uri: str) -> Study:
    """Return the study with the best configurations of earlier ones added; print which they are."""
    points = warm_points(
        [read_earlier_study(uri, name, dataset) for name in dict.fromkeys(earlier)],
        study.space,
        model=study.model,
        objective=study.goal,
        paper=paper_point(study, dataset),
    )
    origins = ", ".join(point.origin for point in points) or "only the paper's configuration"
    print(f"warm start: {origins}", flush=True)
    return dataclasses.replace(study, warm=tuple(points))


@contextmanager
def _recorded(
    options: argparse.Namespace,
    study: Study,
    data: SearchData,
    description: StudyDescription,
    log: EventLog,
    uri: str,
    device: str,
) -> Iterator[Recording]:
    """Record a search in MLflow and in an Optuna file, as its log grows."""
    recording = Recording(
        uri,
        log,
        description,
        settings=resume_settings(options, study, data, uri),
        hyperparameters=base_settings(study, data.name).as_dict(),
        device=device,
    )
    optuna_file = OptunaProjection(
        log, patience=study.patience, run_id=recording.run_id, run_of=recording.run_of
    )
    with Projector(log, optuna_file), recording:
        yield recording


def _print_start(study: Study, about: StudyDescription, shared: str, links: Links) -> None:
    """Print what is searched and where, and how to view it in MLflow."""
    words = (
        f"study {study.name}: up to {study.trials} trials of "
        f"{counted(study.max_epochs, 'epoch')} and {study.executions} executions "
        f"on {about.dataset_title}; the highest {study.goal.symbol} by {study.sampler} and "
        f"{study.scheduler}; {shared}"
    )
    look = f"to view it, run: {links.command}\nthen open:"
    print(*wrapped(words), sep="\n")
    print(look if links.command else "to view it, open:", links.trials, sep="\n", flush=True)
