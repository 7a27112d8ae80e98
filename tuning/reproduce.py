"""Reproduce the paper's tables and figures: ``python tuning/reproduce.py --dataset awa1``.

Every table and figure is written to a folder and recorded in MLflow. This is final evaluation: it
opens the test parts, and nothing that it measures may choose a configuration.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from mianet.data.image_files import unseen_image_names
from mianet.data.search_data import SearchData, load_search_data
from mianet.data.sources import open_source
from mianet.data.test_parts import load_test_parts
from tuning.cli.command_line import (
    FAILED,
    Parser,
    absolute_path,
    add_common_options,
    assignment,
    names,
    positive_int,
    run,
    tracking_uri,
    writable_folder,
)
from tuning.compute import cluster
from tuning.paper.evidence import Evidence, NothingToShowError, Outcome, Setup, Training
from tuning.paper.experiments import EXPERIMENTS, chosen
from tuning.paper.findings import Experiment, Findings, claims_page, write
from tuning.paper.recording import PaperDescription, PaperRecorder
from tuning.paper.setup import CONFIGURATIONS, Wish, resolve
from tuning.paper.tables import write_combined
from tuning.paper.training import outcome_line, run_trainings


def main() -> NoReturn:
    """Run the command line and exit."""
    run(reproduce)


def reproduce() -> int:
    """Do what the command line says; return the exit code."""
    arguments = _parser().parse_args()
    experiments = chosen(arguments.only)
    source = open_source(arguments.dataset, arguments.data_dir)
    uri = tracking_uri(arguments)
    data = load_search_data(arguments.dataset, arguments.data_dir)
    setup = resolve(_wish(arguments, uri), data)
    folder = arguments.output / f"{setup.dataset.replace(':', '-')}-{setup.role}"
    writable_folder(folder, "--output")
    image_names = unseen_image_names(arguments.dataset, arguments.data_dir)
    test = load_test_parts(arguments.dataset, arguments.data_dir)
    trainings = setup.trainings(arm for experiment in experiments for arm in experiment.arms)
    where = cluster.connect()
    share = cluster.share_resources(
        len(trainings),
        workers=len(trainings),
        cpus_per_trial=arguments.cpus_per_trial,
        gpus_per_trial=arguments.gpus_per_trial,
    )
    print(
        f"{setup.caption}\n{len(experiments)} tables and figures from {len(trainings)} trainings, "
        f"{share.workers} at once on {where}, {share.each}",
        flush=True,
    )
    evidence = Evidence(setup, test, {}, image_names, arguments.images)
    with PaperRecorder.open(uri, _describe(data, setup, source.origin, share.device)) as recorder:
        print(f"to look at it: {recorder.location}", flush=True)
        outcomes = run_trainings(trainings, data, test, share)
        failed = _publish_all(experiments, outcomes, evidence, folder, recorder)
        recorder.close()
    combined = write_combined(arguments.output)
    print(f"written to {folder}; tables of all data sets: {', '.join(map(str, combined))}")
    return FAILED if failed else 0


def _publish_all(
    experiments: Sequence[Experiment],
    outcomes: Iterable[tuple[Training, Outcome]],
    evidence: Evidence,
    folder: Path,
    recorder: PaperRecorder,
) -> int:
    """Publish each experiment as soon as its trainings have ended; return how many failed."""
    waiting = list(experiments)
    found: dict[str, Findings | None] = {}
    for training, outcome in outcomes:
        evidence = replace(evidence, outcomes={**evidence.outcomes, training: outcome})
        print(f"training {len(evidence.outcomes)}: {outcome_line(outcome)}", flush=True)
        for experiment in [one for one in waiting if _is_ready(one, evidence)]:
            waiting.remove(experiment)
            found[experiment.name] = _publish(experiment, evidence, folder, recorder)
    in_order = {one.name: found[one.name] for one in experiments}
    _write_index({n: one for n, one in in_order.items() if one is not None}, evidence, folder)
    return list(found.values()).count(None)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="reproduce.py", description=__doc__, allow_abbrev=False)
    add_common_options(parser)
    parser.add_argument(
        "--only",
        type=names,
        default=(),
        help=f"tables and figures, with commas between them: {', '.join(EXPERIMENTS)}",
    )
    parser.add_argument(
        "--config",
        choices=CONFIGURATIONS,
        default="selected",
        help="the configuration that a recorded search selected, or the paper's",
    )
    parser.add_argument("--epochs", type=positive_int, help="default: those that the search found")
    parser.add_argument("--seeds", type=positive_int, default=5, help="trainings of each kind")
    parser.add_argument(
        "--set", type=assignment, action="append", default=[], help="name=value of a hyperparameter"
    )
    parser.add_argument(
        "--output", type=absolute_path, default=absolute_path("paper"), help="default: ./paper"
    )
    parser.add_argument("--images", type=absolute_path, help="folder with the image files, fig. 11")
    return parser


def _wish(arguments: argparse.Namespace, uri: str) -> Wish:
    return Wish(
        role=arguments.config,
        tracking_uri=uri,
        study=arguments.study,
        epochs=arguments.epochs,
        changes=dict(arguments.set),
        seeds=arguments.seeds,
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


def _is_ready(experiment: Experiment, evidence: Evidence) -> bool:
    return evidence.outcomes.keys() >= set(evidence.setup.trainings(experiment.arms))


def _publish(
    experiment: Experiment, evidence: Evidence, folder: Path, recorder: PaperRecorder
) -> Findings | None:
    """Compute, write and record an experiment; return None where it has nothing to show."""
    try:
        findings = experiment.find(evidence)
    except NothingToShowError as error:
        print(f"{experiment.name}: nothing to show, {error}", file=sys.stderr, flush=True)
        recorder.failed(experiment, str(error))
        return None
    own = folder / experiment.name
    write(experiment, evidence, findings, own)
    recorder.found(experiment, findings, own)
    table = [findings.table.text(), ""] if findings.table else []
    print("\n".join(["", experiment.title, *table, *findings.text, ""]), flush=True)
    return findings


def _write_index(found: Mapping[str, Findings], evidence: Evidence, folder: Path) -> None:
    """Write the paper's claims, and one page with everything found in this run."""
    claims = claims_page(found)
    (folder / "claims.md").write_text(claims, encoding="utf-8")
    pages = [
        (folder / name / f"{name}.md").read_text(encoding="utf-8").replace("](", f"]({name}/")
        for name in found
    ]
    heading = f"# The paper's tables and figures\n\n{evidence.setup.caption}.\n"
    page = "\n".join([heading, "## The paper's claims\n", claims, *pages])
    (folder / "README.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
