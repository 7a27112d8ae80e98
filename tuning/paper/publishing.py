"""Write, record and print tables and figures as soon as their trainings have ended."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tuning.paper.evidence import Evidence, NothingToShowError, Outcome, Training
from tuning.paper.findings import Experiment, Findings, claims_page, write
from tuning.paper.recording import PaperRecorder
from tuning.paper.training import outcome_line


def publish_all(
    experiments: Sequence[Experiment],
    outcomes: Iterable[tuple[Training, Outcome]],
    evidence: Evidence,
    folder: Path,
    recorder: PaperRecorder,
) -> int:
    """Publish each experiment as soon as its trainings have ended.

    Args:
        experiments: The tables and figures.
        outcomes: Each training with what came of it, in the order in which they end.
        evidence: What all experiments share; without outcomes.
        folder: The folder to write to.
        recorder: Records them in MLflow.

    Returns:
        How many had nothing to show.
    """
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
