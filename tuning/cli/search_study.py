"""A search, from its options to the connected Ray; ``run_search`` does the rest."""

from __future__ import annotations

import argparse
import importlib
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from mianet.config import VARIANTS
from mianet.data.search_data import SearchData, load_search_data
from mianet.data.sources import Source, is_path, open_source
from tuning.cli.options import tracking_uri, without_repeats
from tuning.cli.resumption import check_not_started, existing_log, nothing_left, resumed_options
from tuning.compute import connection
from tuning.engine.study import Study, check_data
from tuning.spec.models import MODELS
from tuning.spec.space import search_space
from tuning.spec.warm_start import WarmPoint
from tuning.tracking.address import scheme_of


def search_study(options: argparse.Namespace, given: Mapping[str, Any]) -> int:
    """Search a new study, or resume one; return the exit code.

    Args:
        options: All options.
        given: Name → value of those on the command line.
    """
    with ExitStack() as stack:
        log = None
        if options.resume:
            log = stack.enter_context(existing_log(options.storage, options.resume))
            options = resumed_options(log, options.storage, given)
        elif options.study:
            check_not_started(options.storage, options.study)
        study = _study(options)
        if log and nothing_left(log, options):
            print(f"study {study.name} is complete; nothing is left to do", flush=True)
            return 0
        opened = _open(options)
        check_data(opened[1], study.model)
        uri = tracking_uri(options)
        with ThreadPoolExecutor(1) as executor:
            # A named cluster may still refuse; then no database may be created.
            loading = executor.submit(_load, uri if connection.starts_here() else "")
            where = connection.connect(preloaded="tuning.engine.trial")
            loading.result()
        from tuning.cli.run_search import run_search

        return run_search(options, study, opened, uri, where, log)


def _open(options: argparse.Namespace) -> tuple[Source, SearchData]:
    """Open the data set, and print what was found."""
    source = open_source(options.dataset, options.data_dir)
    data = load_search_data(options.dataset, options.data_dir, options.class_embedding)
    images, features = data.features.shape
    described = data.class_embedding and f", classes described by {data.class_embedding}"
    print(
        f"{source.title}: {images} trainval images of {len(data.class_names)} seen "
        f"classes, {features} features each{described}; connecting to Ray",
        flush=True,
    )
    return source, data


def _load(uri: str) -> None:
    """Load what takes as long as Ray to start, and prepare a database on this machine.

    Only Ray Tune has to wait until Ray has started. The current folder differs meanwhile.
    """
    from tuning.tracking.store import open_store

    if scheme_of(uri) == "sqlite":
        open_store(uri)
    importlib.import_module("torch")


def _study(options: argparse.Namespace) -> Study:
    model = MODELS[options.model]
    return Study(
        name=options.study or _new_name(options.dataset),
        model=options.model,
        space=search_space(
            options.search,
            without_repeats("--range", options.range),
            table=model.space,
            settings=model.settings,
        ),
        fixed={**VARIANTS[options.variant], **without_repeats("--set", options.set)},
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
    # Two searches may start in the same second, or the clock may be set back.
    return f"{plain.strip('-') or 'study'}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
