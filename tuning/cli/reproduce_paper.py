"""The paper's tables and figures, from the options to the exit code."""

from __future__ import annotations

import argparse

from mianet.data.search_data import load_search_data
from mianet.data.sources import open_source
from mianet.data.test_parts import load_test_parts, unseen_image_names
from tuning.cli.command_line import FAILED
from tuning.cli.options import tracking_uri, writable_folder
from tuning.compute import cluster, connection
from tuning.compute.display import StatusLine
from tuning.finals.training import training_need
from tuning.paper.evidence import Evidence
from tuning.paper.experiments import select_experiments
from tuning.paper.recording import PaperRecorder
from tuning.paper.reproduction import reproduce
from tuning.paper.setup import resolve_setup
from tuning.paper.tables import write_combined


def reproduce_paper(options: argparse.Namespace) -> int:
    """Make the tables and figures that were asked for; return the exit code."""
    experiments = select_experiments(options.only)
    source = open_source(options.dataset, options.data_dir)
    uri = tracking_uri(options)
    data = load_search_data(options.dataset, options.data_dir, options.class_embedding)
    test = load_test_parts(options.dataset, options.data_dir, options.class_embedding)
    setup = resolve_setup(options, uri, data, source.origin, len(test.unseen_classes))
    folder = options.output / f"{setup.dataset.replace(':', '-')}-{setup.role}"
    writable_folder(folder, "--output")
    image_names = unseen_image_names(options.dataset, options.data_dir)
    trainings = setup.trainings(arm for one in experiments for arm in one.arms)
    where = connection.connect()
    share = cluster.share_resources(
        len(trainings),
        workers=len(trainings),
        cpus_per_trial=options.cpus_per_trial,
        gpus_per_trial=options.gpus_per_trial,
        need=training_need((one.settings for one in trainings), data, test),
    )
    print(
        f"{setup.caption}\n{len(experiments)} tables and figures from {len(trainings)} trainings, "
        f"{share.workers} at once on {where}, {share.each}",
        flush=True,
    )
    evidence = Evidence(setup, test, {}, image_names, options.images)
    with PaperRecorder(uri, setup, share.device) as recorder, StatusLine() as line:
        print(f"to view it: {recorder.location}", flush=True)
        failed = reproduce(experiments, evidence, data, share, folder, recorder, line)
    tables = [f"tables of all data sets: {path}" for path in write_combined(options.output)]
    print(f"written to {folder}", *tables, sep="\n")
    return FAILED if failed else 0
