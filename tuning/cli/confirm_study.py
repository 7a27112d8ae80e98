"""The confirmation of a study's best trials, from its options to its exit code."""

from __future__ import annotations

import argparse

from mianet.data.search_data import load_search_data
from mianet.data.sources import open_source
from tuning.analysis.selection import candidates, select
from tuning.cli.options import tracking_uri
from tuning.cli.terminal import wrapped
from tuning.compute import cluster, connection
from tuning.compute.display import StatusLine
from tuning.compute.gpu_share import search_need
from tuning.engine.confirmation import MOST_CONTENDERS, confirm, contenders, fresh_draws
from tuning.spec.models import read_settings
from tuning.tracking.backlog import deliver_waiting_for
from tuning.tracking.reading import read_trials
from tuning.tracking.recording import recorded_final


def confirm_study(options: argparse.Namespace) -> int:
    """Confirm the best trials of a study on fresh draws; return the exit code."""
    source = open_source(options.dataset, options.data_dir)
    uri = tracking_uri(options)
    data = load_search_data(options.dataset, options.data_dir, options.class_embedding)
    deliver_waiting_for(options.storage, uri)
    trials = read_trials(uri, data.name, options.study)
    ranked = candidates(trials, study=options.study, data_digest=data.digest, model=options.model)
    draws = fresh_draws(ranked, data, source.origin, options.draws)
    connection.connect()
    most = (MOST_CONTENDERS + 1) * len(draws.numbers)
    share = cluster.share_resources(
        most,
        workers=most,
        cpus_per_trial=options.cpus_per_trial,
        gpus_per_trial=options.gpus_per_trial,
        need=search_need(data, (read_settings(t.hyperparameters) for t in contenders(ranked))),
    )
    with StatusLine() as line:
        confirm(
            ranked, draws, share, lambda about: recorded_final(uri, about, options.storage), line
        )
    if not options.brief:
        trials = read_trials(uri, data.name, options.study)
        why = select(trials, data_digest=data.digest, model=options.model).why
        print(*wrapped(why), sep="\n", flush=True)
    return 0
