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
    begun,
    check_not_started,
    check_unchanged,
    kept_settings,
    new_ledger,
    nothing_left,
    old_ledger,
    resume_command,
)
from tuning.cli.search_options import DEFAULTS
from tuning.cli.terminal import StatusLine, wrapped
from tuning.cli.tracking_store import tracking_uri
from tuning.compute import cluster
from tuning.compute.gpu_share import need_of_any
from tuning.engine import interrupts
from tuning.engine.execution_table import ExecutionTable
from tuning.engine.optuna_file import OptunaFile
from tuning.engine.study import (
    Study,
    StudyOutcome,
    check_data,
    describe_study,
    largest_settings,
    paper_point,
    run_study,
)
from tuning.engine.trial import objective
from tuning.events.ledger import Ledger
from tuning.spec.models import MODELS
from tuning.spec.records import StudyDescription
from tuning.spec.space import search_space
from tuning.spec.warm_start import WarmPoint, warm_points
from tuning.tracking.artifacts import record_files
from tuning.tracking.recording import (
    JOURNAL_FOLDER,
    Links,
    StudyRecorder,
    check_new_study,
    deliver_waiting_for,
    read_earlier_study,
)
from tuning.tracking.store import open_store


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
        ledger = None
        if options.resume:
            ledger = stack.enter_context(old_ledger(options.storage, options.resume))
            options = as_started(ledger, options.storage, given)
        study = _study(options)
        if ledger and nothing_left(ledger, options):
            print(f"study {study.name} is complete; nothing is left to do", flush=True)
            return 0
        plan = _plan(options, study, ledger)
        with ThreadPoolExecutor(1) as aside:
            tables = aside.submit(open_store, plan.uri)  # makes a new database while Ray starts
            connected, plan = _connect(plan)
            tables.result()
        if not ledger:
            check_new_study(plan.uri, plan.data.name, plan.study.name)
            writable_folder(plan.storage)
            ledger = stack.enter_context(new_ledger(plan.storage, plan.study.name))
        outcome = _run(plan, connected, ledger)
        # Loads what tables and reports need, which the first trial need not wait for.
        from tuning.cli.after_search import finish

        return finish(outcome, plan.options, plan.study, ledger, plan.uri)


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


def _plan(options: argparse.Namespace, study: Study, ledger: Ledger | None) -> _Plan:
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
    if ledger:
        check_unchanged(ledger, data)
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
    where = cluster.connect()
    kept, data = cluster.keep_once(plan.data)
    share = cluster.share_resources(
        study.trials,
        workers=options.workers,
        cpus_per_trial=options.cpus_per_trial,
        gpus_per_trial=options.gpus_per_trial,
        need=need_of_any(data, [largest_settings(study, data.name)], study.executions),
    )
    cluster.import_ahead(objective.__module__, share)
    return _Cluster(where, kept, share), dataclasses.replace(plan, data=data)


def _run(plan: _Plan, connected: _Cluster, ledger: Ledger) -> StudyOutcome:
    """Run the trials, and record them."""
    study, uri, share = plan.study, plan.uri, connected.share
    deliver_waiting_for(plan.storage, uri)
    description = describe_study(study, plan.data, plan.data_source, share, connected.where)
    journal = ledger.folder / JOURNAL_FOLDER
    executions = ExecutionTable()
    with (
        interrupts.watching(resume_command(plan.storage, study.name)) as interrupt,
        begun(ledger, kept_settings(plan.options, study, plan.data, uri)),
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
        print(*wrapped(_first_words(study, description, connected)), sep="\n", flush=True)
        print(*_where(recorder.links), sep="\n", flush=True)
        with StatusLine() as line:
            outcome = run_study(
                study,
                plan.data.name,
                connected.data,
                share,
                recorder,
                ledger,
                interrupt,
                line,
                [optuna_file.take, executions.take],
            )
        recorder.close("interrupted" if outcome.interrupted else "finished")
    with tempfile.TemporaryDirectory() as folder:
        executions.write(Path(folder))
        record_files(uri, recorder.study_run_id, Path(folder))
    return outcome


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
