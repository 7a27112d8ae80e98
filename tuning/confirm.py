"""Confirm the best trials of a study on fresh draws: ``python tuning/confirm.py --dataset apy``.

A search does it at its end; this does it for a study that has ended already, or adds the trials
that have come since. What is confirmed on these draws already is not run again.
"""

from __future__ import annotations

import argparse
from typing import NoReturn

from mianet.data.search_data import load_search_data
from mianet.data.sources import open_source
from tuning.analysis.selection import candidates, select
from tuning.cli.command_line import (
    Parser,
    add_common_options,
    add_model_option,
    add_storage_option,
    positive_int,
    run,
    tracking_uri,
)
from tuning.cli.terminal import StatusLine
from tuning.compute import cluster
from tuning.compute.gpu_share import need_of_any
from tuning.engine.confirmation import MOST_CONTENDERS, confirm, contenders, fresh_draws
from tuning.spec.models import read_settings
from tuning.tracking.recording import deliver_waiting_for, read_trials

DEFAULT_DRAWS = 10


def main() -> NoReturn:
    """Run the command line and exit."""
    run(confirm_study)


def confirm_study() -> int:
    """Do what the command line says; return the exit code."""
    arguments = _parser().parse_args()
    source = open_source(arguments.dataset, arguments.data_dir)
    uri = tracking_uri(arguments)
    data = load_search_data(arguments.dataset, arguments.data_dir)
    deliver_waiting_for(arguments.storage, uri)
    trials = read_trials(uri, source.name, arguments.study)
    ranked = candidates(
        trials, study=arguments.study, data_digest=data.digest, model=arguments.model
    )
    draws = fresh_draws(ranked, data, source.origin, arguments.draws)
    cluster.connect()
    most = (MOST_CONTENDERS + 1) * draws.count
    share = cluster.share_resources(
        most,
        workers=most,
        cpus_per_trial=arguments.cpus_per_trial,
        gpus_per_trial=arguments.gpus_per_trial,
        need=need_of_any(data, (read_settings(t.hyperparameters) for t in contenders(ranked))),
    )
    with StatusLine() as line:
        confirm(ranked, draws, share, uri, arguments.storage, line)
    trials = read_trials(uri, source.name, arguments.study)
    if not arguments.brief:
        print(select(trials, data_digest=data.digest, model=arguments.model).why)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="confirm.py", description=__doc__, allow_abbrev=False)
    add_common_options(parser)
    add_model_option(parser)
    add_storage_option(parser)
    parser.add_argument(
        "--draws", type=positive_int, default=DEFAULT_DRAWS, help="fresh draws for each trial"
    )
    parser.add_argument(
        "--brief", action="store_true", help="leave the choice in words to what follows"
    )
    return parser


if __name__ == "__main__":
    main()
