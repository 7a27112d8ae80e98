"""The final training, from its options to its exit code."""

from __future__ import annotations

import argparse
import sys

from mianet.data.search_data import SearchData, load_search_data
from mianet.data.sources import open_source
from mianet.data.test_parts import load_test_parts
from tuning.analysis.selection import Selection, select
from tuning.cli.command_line import FAILED
from tuning.cli.terminal import StatusLine, wrapped
from tuning.cli.tracking_store import tracking_uri
from tuning.compute import cluster, connection
from tuning.finals.recording import Tested, record, register
from tuning.finals.table import table
from tuning.finals.training import FinalTrainings, Setup, need_of_trainings
from tuning.spec.choices import MIANET
from tuning.spec.records import RecordedTrial
from tuning.tracking.backlog import deliver_waiting_for
from tuning.tracking.recorded_trials import read_trials


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
    chosen = _configurations(selection)
    setup = _connect(options, data, source.origin, chosen)
    tested = {}
    with StatusLine() as line:
        trainings = FinalTrainings(chosen, setup, line)
        for role, trial in chosen.items():
            results = trainings.results(role)
            tested[role] = record(role, trial, results, setup, uri, options.storage)
    if not options.brief:
        figures = {role: (one.trial, one.figures) for role, one in tested.items()}
        print(table(figures, seeds=len(setup.seeds)), flush=True)
    if options.model == MIANET:
        return _register(tested["selected"], uri, data)
    return FAILED if tested["selected"].diverged else 0


def _configurations(selection: Selection) -> dict[str, RecordedTrial]:
    """Return role → trial: the selected one, and the paper's where that is another."""
    if selection.paper is None or selection.paper == selection.trial:
        return {"selected": selection.trial}
    return {"paper": selection.paper, "selected": selection.trial}


def _connect(
    options: argparse.Namespace,
    data: SearchData,
    data_source: str,
    chosen: dict[str, RecordedTrial],
) -> Setup:
    """Open the test parts, connect to Ray, and share the cluster among the trainings."""
    test = load_test_parts(options.dataset, options.data_dir, options.class_embedding)
    where = connection.connect()
    seeds = range(options.seeds)
    trainings = len(seeds) * len(chosen)
    share = cluster.share_resources(
        trainings,
        workers=trainings,
        cpus_per_trial=options.cpus_per_trial,
        gpus_per_trial=options.gpus_per_trial,
        need=need_of_trainings(chosen.values(), data, test),
    )
    first = (
        f"final training on all trainval images: {' and '.join(chosen)}, {len(seeds)} seeds each, "
        f"{share.workers} at once on {where}, {share.each}"
    )
    print(*wrapped(first), sep="\n", flush=True)
    return Setup(data, test, data_source, seeds, share)


def _register(selected: Tested, uri: str, data: SearchData) -> int:
    """Register the model of the first seed; return the exit code."""
    model = register(selected, uri, data)
    if model is None:
        print("error: the selected configuration diverged; no model is registered", file=sys.stderr)
        return FAILED
    print(f"registered {model.name} version {model.version} as champion: {model.uri}", flush=True)
    return 0
