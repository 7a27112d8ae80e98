"""A search from its options to its exit code: plan, connect, run, and what follows."""

from __future__ import annotations

import argparse
import dataclasses
import secrets
import tempfile
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
from mianet.data.sources import is_path, open_source
from tuning.cli.options import once, writable_folder
from tuning.cli.resumption import (
    as_started,
    check_not_started,
    check_unchanged,
    kept_settings,
    name_left_free,
    new_log,
    nothing_left,
    old_log,
    resume_command,
)
from tuning.cli.search_options import DEFAULTS
from tuning.cli.terminal import StatusLine, wrapped
from tuning.cli.tracking_store import tracking_uri
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
from tuning.tracking.artifacts import record_files
from tuning.tracking.backlog import deliver_waiting_for
from tuning.tracking.optuna_projection import OptunaProjection
from tuning.tracking.recorded_trials import check_new_study, read_earlier_study
from tuning.tracking.recording import Recording
from tuning.tracking.store import open_store
from tuning.tracking.views import Links


@dataclass(frozen=True)
class _Plan:
    """What is to be searched.

    Attributes:
        options: All options of the search.
        study: What is searched, and how.
        data: What it is searched on.
        data_source: Where the data are from.
        uri: The tracking store.
    """

    options: argparse.Namespace
    study: Study
    data: SearchData
    data_source: str
    uri: str

    @property
    def storage(self) -> Path:
        storage: Path = self.options.storage
        return storage


@dataclass(frozen=True)
class _Cluster:
    """Where a search runs.

    Attributes:
        where: The cluster in words.
        data: The study's data in the cluster's object store.
        share: How trials share the cluster.
    """

    where: str
    data: ray.ObjectRef
    share: cluster.Share


def search_study(given: Mapping[str, Any]) -> int:
    """Search a study, or go on with one; return the exit code.

    Args:
        given: Option → value, of the options that were given.

    Raises:
        InputError: An option cannot be used.
    """
    with ExitStack() as stack:
        options = argparse.Namespace(**{**DEFAULTS, **given})
        log = None
        if options.resume:
            log = stack.enter_context(old_log(options.storage, options.resume))
            options = as_started(log, options.storage, given)
        study = _study(options)
        if log and nothing_left(log, options):
            print(f"study {study.name} is complete; nothing is left to do", flush=True)
            return 0
        plan = _plan(options, study, log)
        with ThreadPoolExecutor(1) as aside:
            # A new database is made while Ray starts; a cluster that is named may still refuse.
            tables = aside.submit(open_store, plan.uri) if connection.starts_here() else None
            connected, plan = _connect(plan)
            if tables:
                tables.result()
        if not log:
            check_new_study(plan.uri, plan.data.name, plan.study.name)
            writable_folder(plan.storage)
            log = stack.enter_context(new_log(plan.storage, plan.study.name))
        outcome = _run(plan, connected, log)
        # Loads what tables and reports need, which the first trial need not wait for.
        from tuning.cli.after_search import finish

        return finish(outcome, plan.options, plan.study, log, plan.uri)


def _study(options: argparse.Namespace) -> Study:
    if not options.resume and options.study:
        check_not_started(options.storage, options.study)
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
        warm=tuple(WarmPoint(**point) for point in options.warm_points),
    )


def _new_name(dataset: str) -> str:
    name = Path(dataset).resolve().name if is_path(dataset) else dataset
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())
    # Two searches may start in the same second, or a clock may be set back.
    return f"{plain.strip('-') or 'study'}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _plan(options: argparse.Namespace, study: Study, log: EventLog | None) -> _Plan:
    """Load and check the data; add the configurations of earlier studies to a new study."""
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
    options = argparse.Namespace(**{**vars(options), "dataset": source.address})
    return _Plan(options, study, data, source.origin, uri)


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


def _connect(plan: _Plan) -> tuple[_Cluster, _Plan]:
    """Connect to Ray, put the data there, and share the cluster among trials."""
    study, options = plan.study, plan.options
    where = connection.connect(preloaded=objective.__module__)
    kept, data = cluster.keep_once(plan.data)
    share = cluster.share_resources(
        study.trials,
        workers=options.workers,
        cpus_per_trial=options.cpus_per_trial,
        gpus_per_trial=options.gpus_per_trial,
        need=need_of_any(data, [largest_settings(study, data.name)], study.executions),
    )
    return _Cluster(where, kept, share), dataclasses.replace(plan, data=data)


def _run(plan: _Plan, connected: _Cluster, log: EventLog) -> StudyOutcome:
    """Run the trials, and record them."""
    study, uri, share = plan.study, plan.uri, connected.share
    deliver_waiting_for(plan.storage, uri)
    description = describe_study(study, plan.data, plan.data_source, share, connected.where)
    with (
        interrupts.watching(resume_command(plan.storage, study.name)) as interrupt,
        name_left_free(log),
    ):
        recording = Recording.of_study(
            uri,
            log,
            description,
            settings=kept_settings(plan.options, study, plan.data, uri),
            hyperparameters=base_settings(study, plan.data.name).as_dict(),
            device=share.device,
        )
        optuna_file = OptunaProjection(
            log, patience=study.patience, run_id=recording.run_id, run_of=recording.run_of
        )
        with Projector(log, optuna_file), recording:
            print(*wrapped(_first_words(study, description, connected)), sep="\n", flush=True)
            print(*_where(recording.links), sep="\n", flush=True)
            with StatusLine() as line:
                outcome = run_study(
                    study, plan.data.name, connected.data, share, log, interrupt, line
                )
    _record_executions(log, recording, uri)
    return outcome


def _record_executions(log: EventLog, recording: Recording, uri: str) -> None:
    """Record the table of all figures of single executions."""
    executions = ExecutionTable()
    for event, _ in log.read():
        executions.take(event)
    with tempfile.TemporaryDirectory() as folder:
        executions.write(Path(folder))
        record_files(uri, recording.run_id, Path(folder))


def _where(links: Links) -> list[str]:
    """Return the lines that say how to look at a study in MLflow."""
    served = [f"to look at it, start: {links.command}", "then open:"]
    return [*(served if links.command else ["to look at it, open:"]), links.trials]


def _first_words(study: Study, description: StudyDescription, connected: _Cluster) -> str:
    return (
        f"study {study.name}: up to {study.trials} trials of {study.max_epochs} "
        f"epoch{'s' * (study.max_epochs != 1)} and {study.executions} "
        f"executions on {description.dataset_title}; the highest {study.goal.symbol} by "
        f"{study.sampler} and {study.scheduler}; {connected.share.workers} at once on "
        f"{connected.where}, {connected.share.each}"
    )
