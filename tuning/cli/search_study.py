"""A search from its options to its exit code: plan, connect, run, and what follows."""

from __future__ import annotations

import argparse
import dataclasses
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import ray

from mianet.config import VARIANTS
from mianet.data.search_data import SearchData, load_search_data
from mianet.data.sources import Source, is_path, open_source
from tuning.cli.options import once, tracking_uri, writable_folder
from tuning.cli.resumption import (
    as_started,
    check_not_started,
    check_unchanged,
    kept_settings,
    new_log,
    nothing_left,
    old_log,
    resume_command,
)
from tuning.cli.terminal import StatusLine, wrapped
from tuning.compute import cluster, connection
from tuning.compute.gpu_share import need_of_any
from tuning.engine import interrupts
from tuning.engine.execution_table import ExecutionTable
from tuning.engine.study import (
    Study,
    StudyOutcome,
    base_settings,
    check_data,
    describe_study,
    largest_settings,
    paper_point,
    run_study,
)
from tuning.engine.trial import objective
from tuning.events.log import EventLog
from tuning.events.projector import Projector
from tuning.spec.models import MODELS
from tuning.spec.records import StudyDescription
from tuning.spec.space import search_space
from tuning.spec.warm_start import WarmPoint, warm_points
from tuning.tracking.backlog import deliver_waiting_for
from tuning.tracking.optuna_projection import OptunaProjection
from tuning.tracking.recorded_trials import check_new_study, read_earlier_study
from tuning.tracking.recording import Recording
from tuning.tracking.store import open_store
from tuning.tracking.unlogged import recorded_files


@dataclass(frozen=True)
class _Search:
    """A search that is ready to run.

    Attributes:
        options: All options of it.
        study: What is searched, and how.
        data: What it is searched on.
        kept: The same in the cluster's object store.
        source: Where the data are from.
        uri: The tracking store.
        where: The cluster in words.
        share: How trials share it.
    """

    options: argparse.Namespace
    study: Study
    data: SearchData
    kept: ray.ObjectRef
    source: Source
    uri: str
    where: str
    share: cluster.Share


def search_study(options: argparse.Namespace, given: Mapping[str, Any]) -> int:
    """Search a study, or go on with one; return the exit code.

    Args:
        options: All options.
        given: Name → value of those that the command line has.

    Raises:
        InputError: An option cannot be used.
    """
    with ExitStack() as stack:
        log = None
        if options.resume:
            log = stack.enter_context(old_log(options.storage, options.resume))
            options = as_started(log, options.storage, given)
        elif options.study:
            check_not_started(options.storage, options.study)
        study = _study(options)
        if log and nothing_left(log, options):
            print(f"study {study.name} is complete; nothing is left to do", flush=True)
            return 0
        search = _prepared(options, study, log)
        if not log:
            check_new_study(search.uri, search.data.name, study.name)
            writable_folder(options.storage)
            log = stack.enter_context(new_log(options.storage, study.name))
        outcome = _run(search, log)
        # Loads what tables and reports need, which the first trial need not wait for.
        from tuning.cli.after_search import finish

        return finish(outcome, options, study, log, search.uri)


def _study(options: argparse.Namespace) -> Study:
    model = MODELS[options.model]
    return Study(
        name=options.study or _new_name(options.dataset),
        model=options.model,
        space=search_space(
            options.search,
            once("--range", options.range),
            table=model.space,
            settings=model.settings,
        ),
        fixed={**VARIANTS[options.variant], **once("--set", options.set)},
        trials=options.trials,
        max_epochs=1 if model.closed_form else options.max_epochs,
        patience=options.patience,
        executions=options.executions,
        seed=options.seed,
        sampler=options.sampler,
        scheduler=options.scheduler,
        time_budget=options.time_budget,
        objective=options.objective,
        warm=tuple(WarmPoint(**point) for point in vars(options).get("warm_points", ())),
    )


def _new_name(dataset: str) -> str:
    name = Path(dataset).resolve().name if is_path(dataset) else dataset
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())
    # Two searches may start in the same second, or a clock may be set back.
    return f"{plain.strip('-') or 'study'}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _prepared(options: argparse.Namespace, study: Study, log: EventLog | None) -> _Search:
    """Load and check the data, connect to Ray, put the data there, and share it among trials."""
    source = open_source(options.dataset, options.data_dir)
    data = load_search_data(options.dataset, options.data_dir, options.class_embedding)
    check_data(data, study.model)
    images, features = data.features.shape
    described = data.class_embedding and f", classes described by {data.class_embedding}"
    print(
        f"{source.title}: {images} trainval images of {len(data.class_names)} seen "
        f"classes, {features} features each{described}; connecting to Ray",
        flush=True,
    )
    uri = tracking_uri(options)
    if log:
        check_unchanged(log, data, study)
    elif options.warm_start:
        deliver_waiting_for(options.storage, uri)
        study = _warm_started(study, options.warm_start, data.name, uri)
    options.dataset = source.address  # the same for whoever goes on from another folder
    with ThreadPoolExecutor(1) as aside:
        # A new database is made while Ray starts; a cluster that is named may still refuse.
        tables = aside.submit(open_store, uri) if connection.starts_here() else None
        where = connection.connect(preloaded=objective.__module__)
        kept, data = cluster.keep_once(data)
        share = cluster.share_resources(
            study.trials,
            workers=options.workers,
            cpus_per_trial=options.cpus_per_trial,
            gpus_per_trial=options.gpus_per_trial,
            need=need_of_any(data, [largest_settings(study, data.name)], study.executions),
        )
        if tables:
            tables.result()
    return _Search(options, study, data, kept, source, uri, where, share)


def _warm_started(study: Study, earlier: list[str], dataset: str, uri: str) -> Study:
    """Return the study with the best configurations of earlier ones, and print which those are."""
    points = warm_points(
        [read_earlier_study(uri, name, dataset) for name in dict.fromkeys(earlier)],
        study.space,
        model=study.model,
        objective=study.goal,
        paper=paper_point(study, dataset),
    )
    taken = ", ".join(point.origin for point in points) or "nothing that is not the paper's"
    print(f"warm start: {taken}", flush=True)
    return dataclasses.replace(study, warm=tuple(points))


def _run(search: _Search, log: EventLog) -> StudyOutcome:
    """Run the trials, and record them."""
    study, options, data, uri = search.study, search.options, search.data, search.uri
    deliver_waiting_for(options.storage, uri)
    description = describe_study(study, data, search.source.origin, search.share, search.where)
    with interrupts.watching(resume_command(options.storage, study.name)) as interrupt:
        recording = Recording(
            uri,
            log,
            description,
            settings=kept_settings(options, study, data, uri),
            hyperparameters=base_settings(study, data.name).as_dict(),
            device=search.share.device,
        )
        optuna_file = OptunaProjection(
            log, patience=study.patience, run_id=recording.run_id, run_of=recording.run_of
        )
        with Projector(log, optuna_file), recording:
            _print_start(search, description, recording)
            with StatusLine() as line:
                outcome = run_study(
                    study, data.name, search.kept, search.share, log, interrupt, line
                )
    _record_executions(log, recording, uri)
    return outcome


def _print_start(search: _Search, description: StudyDescription, recording: Recording) -> None:
    """Print what is searched and where, and how to look at it in MLflow."""
    study, links = search.study, recording.links
    words = (
        f"study {study.name}: up to {study.trials} trials of {study.max_epochs} "
        f"epoch{'s' * (study.max_epochs != 1)} and {study.executions} "
        f"executions on {description.dataset_title}; the highest {study.goal.symbol} by "
        f"{study.sampler} and {study.scheduler}; {search.share.workers} at once on "
        f"{search.where}, {search.share.each}"
    )
    look = f"to look at it, start: {links.command}\nthen open:"
    print(*wrapped(words), sep="\n")
    print(look if links.command else "to look at it, open:", links.trials, sep="\n", flush=True)


def _record_executions(log: EventLog, recording: Recording, uri: str) -> None:
    """Record the table of all figures of single executions."""
    executions = ExecutionTable()
    for event, _ in log.read():
        executions.take(event)
    with recorded_files(uri, recording.run_id) as folder:
        executions.write(folder)
