"""The final training, from its options to its exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace

from mianet.data.search_data import SearchData, load_search_data
from mianet.data.sources import open_source
from mianet.data.test_parts import load_test_parts
from tuning.analysis.outcome_table import outcome_table
from tuning.analysis.selection import select
from tuning.cli.command_line import FAILED
from tuning.cli.options import tracking_uri
from tuning.cli.terminal import wrapped
from tuning.compute import cluster, connection
from tuning.compute.display import StatusLine
from tuning.finals import training
from tuning.spec.choices import MIANET
from tuning.spec.models import read_settings
from tuning.spec.records import RecordedTrial
from tuning.tracking.backlog import deliver_waiting_for
from tuning.tracking.model_registry import register_model
from tuning.tracking.reading import read_trials


def train_and_test(options: argparse.Namespace) -> int:
    """Train the selected and the paper's configuration, and test them; return the exit code."""
    source = open_source(options.dataset, options.data_dir)
    uri = tracking_uri(options)
    data = load_search_data(options.dataset, options.data_dir, options.class_embedding)
    deliver_waiting_for(options.storage, uri)
    trials = read_trials(uri, data.name, options.study)
    selection = select(trials, study=options.study, data_digest=data.digest, model=options.model)
    if not options.brief:
        print(*wrapped(selection.why), sep="\n", flush=True)
    chosen = {"paper": selection.paper} if selection.paper not in (None, selection.trial) else {}
    chosen["selected"] = selection.trial
    setup = _connect(options, data, source.origin, chosen)
    with StatusLine() as line:
        tested = training.train_final_models(chosen, setup, uri, options.storage, line)
    if not options.brief:
        figures = {role: (one.trial, one.figures) for role, one in tested.items()}
        print(outcome_table(figures, seeds=len(setup.seeds)), flush=True)
    if options.model == MIANET:
        return _register(tested["selected"], uri, data)
    return FAILED if tested["selected"].diverged else 0


def _connect(
    options: argparse.Namespace,
    data: SearchData,
    data_source: str,
    chosen: Mapping[str, RecordedTrial],
) -> training.FinalSetup:
    """Open the test parts, connect to Ray, and share the cluster among the trainings."""
    test = load_test_parts(options.dataset, options.data_dir, options.class_embedding)
    where = connection.connect()
    trainings = options.seeds * len(chosen)
    share = cluster.share_resources(
        trainings,
        workers=trainings,
        cpus_per_trial=options.cpus_per_trial,
        gpus_per_trial=options.gpus_per_trial,
        need=training.training_need(
            (read_settings(trial.hyperparameters) for trial in chosen.values()), data, test
        ),
    )
    first = (
        f"final training on all trainval images: {' and '.join(chosen)}, {options.seeds} seeds "
        f"each, {share.workers} at once on {where}, {share.each}"
    )
    print(*wrapped(first), sep="\n", flush=True)
    return training.FinalSetup(data, test, data_source, range(options.seeds), share)


def _register(selected: training.Tested, uri: str, data: SearchData) -> int:
    """Register the model of the first seed: choosing a seed by its test would be cheating."""
    if selected.classifier is None:
        print("error: the selected configuration diverged; no model is registered", file=sys.stderr)
        return FAILED
    model = register_model(
        uri,
        run_id=selected.run_id,
        dataset=data.name,
        classifier=replace(selected.classifier, backbone=data.backbone),
        example=data.features[:2],
    )
    print(f"registered {model.name} version {model.version} as champion: {model.uri}", flush=True)
    return 0
