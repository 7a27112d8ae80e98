"""The paper's tables and figures, from the options to the exit code."""

from __future__ import annotations

import argparse

from mianet.data.image_files import unseen_image_names
from mianet.data.search_data import SearchData, load_search_data
from mianet.data.sources import open_source
from mianet.data.test_parts import load_test_parts
from tuning.cli.command_line import FAILED
from tuning.cli.options import writable_folder
from tuning.cli.tracking_store import tracking_uri
from tuning.compute import cluster, connection
from tuning.paper.evidence import Evidence, Setup
from tuning.paper.experiments import chosen
from tuning.paper.publishing import publish_all
from tuning.paper.recording import PaperDescription, PaperRecorder
from tuning.paper.setup import Wish, resolve
from tuning.paper.tables import write_combined
from tuning.paper.training import run_trainings


def reproduce_paper(options: argparse.Namespace) -> int:
    """Make the tables and figures that were asked for; return the exit code."""
    experiments = chosen(options.only)
    source = open_source(options.dataset, options.data_dir)
    uri = tracking_uri(options)
    data = load_search_data(options.dataset, options.data_dir, options.class_embedding)
    test = load_test_parts(options.dataset, options.data_dir, options.class_embedding)
    setup = resolve(_wish(options, uri), data, len(test.unseen_classes))
    folder = options.output / f"{setup.dataset.replace(':', '-')}-{setup.role}"
    writable_folder(folder, "--output")
    image_names = unseen_image_names(options.dataset, options.data_dir)
    trainings = setup.trainings(arm for experiment in experiments for arm in experiment.arms)
    where = connection.connect()
    share = cluster.share_resources(
        len(trainings),
        workers=len(trainings),
        cpus_per_trial=options.cpus_per_trial,
        gpus_per_trial=options.gpus_per_trial,
    )
    print(
        f"{setup.caption}\n{len(experiments)} tables and figures from {len(trainings)} trainings, "
        f"{share.workers} at once on {where}, {share.each}",
        flush=True,
    )
    evidence = Evidence(setup, test, {}, image_names, options.images)
    with PaperRecorder(uri, _describe(data, setup, source.origin, share.device)) as recorder:
        print(f"to look at it: {recorder.location}", flush=True)
        outcomes = run_trainings(trainings, data, test, share)
        failed = publish_all(experiments, outcomes, evidence, folder, recorder)
        recorder.close()
    combined = write_combined(options.output)
    print(
        f"written to {folder}", *(f"tables of all data sets: {path}" for path in combined), sep="\n"
    )
    return FAILED if failed else 0


def _wish(options: argparse.Namespace, uri: str) -> Wish:
    return Wish(
        role=options.config,
        tracking_uri=uri,
        study=options.study,
        epochs=options.epochs,
        changes=dict(options.set),
        seeds=options.seeds,
    )


def _describe(data: SearchData, setup: Setup, origin: str, device: str) -> PaperDescription:
    images, feature_dim = data.features.shape
    return PaperDescription(
        setup=setup,
        dataset=data.name,
        data_digest=data.digest,
        data_source=origin,
        data_shape={"rows": images, "feature_dim": feature_dim},
        device=device,
    )
