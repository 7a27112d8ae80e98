"""Train, and publish each table and figure as soon as its trainings have ended."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import ray

from mianet.data.search_data import SearchData
from mianet.errors import DivergedError
from mianet.final_training import measure
from tuning.compute.cluster import Share
from tuning.compute.display import StatusLine
from tuning.compute.waiting import Tasks
from tuning.paper.evidence import Evidence, NothingToShowError, TrainingOutcome
from tuning.paper.findings import Experiment, Findings, claims_page, write
from tuning.paper.recording import PaperRecorder


def reproduce(
    experiments: Sequence[Experiment],
    evidence: Evidence,
    data: SearchData,
    share: Share,
    folder: Path,
    recorder: PaperRecorder,
    display: StatusLine,
) -> int:
    """Run all trainings, publish each experiment after its own; return how many showed nothing.

    Args:
        experiments: The tables and figures.
        evidence: What they share; still without outcomes.
        data: All of trainval.
        share: Each training's share of the connected cluster.
        folder: The folder to write to.
        recorder: Records them in MLflow.
        display: Shows progress, and what is found.
    """
    waiting = list(experiments)
    found: dict[str, Findings | None] = dict.fromkeys(one.name for one in experiments)
    needed = {one.name: set(evidence.setup.trainings(one.arms)) for one in experiments}
    tasks = Tasks("training", share, display)
    data_ref, test_ref = ray.put(data), ray.put(evidence.test)
    started = {
        training: tasks.start(
            *(measure, data_ref, test_ref, training.settings),
            epochs=training.epochs,
            seed=training.seed,
            device=share.device,
            keep_model=training.keep_model,
            new_classes=training.new_classes,
        )
        for training in evidence.setup.trainings(arm for one in experiments for arm in one.arms)
    }
    for number, (training, reference) in enumerate(started.items(), start=1):
        outcome = tasks.wait_for(reference, f"seed {training.seed}").result
        evidence = replace(evidence, outcomes={**evidence.outcomes, training: outcome})
        display.say(f"training {number}: {_words(outcome)}")
        for one in [one for one in waiting if evidence.outcomes.keys() >= needed[one.name]]:
            waiting.remove(one)
            found[one.name] = _publish(one, evidence, folder, recorder, display)
    _write_index({name: one for name, one in found.items() if one}, evidence, folder)
    return list(found.values()).count(None)


def _words(outcome: TrainingOutcome) -> str:
    if isinstance(outcome, DivergedError):
        return f"diverged: {outcome}"
    h, t1 = (100 * outcome.figures[figure] for figure in ("harmonic_mean", "zsl_accuracy"))
    return f"H {h:.1f}, T1 {t1:.1f}, {outcome.seconds:.0f} s"


def _publish(
    experiment: Experiment,
    evidence: Evidence,
    folder: Path,
    recorder: PaperRecorder,
    display: StatusLine,
) -> Findings | None:
    """Compute, write and record an experiment; return None if it has nothing to show."""
    try:
        findings = experiment.find(evidence)
    except NothingToShowError as error:
        print(f"{experiment.name}: nothing to show: {error}", file=sys.stderr, flush=True)
        recorder.record_failure(experiment, str(error))
        return None
    own = folder / experiment.name
    write(experiment, evidence, findings, own)
    recorder.record_findings(experiment, findings, own)
    table = [findings.table.text(), ""] if findings.table else []
    display.say("\n".join(["", experiment.title, *table, *findings.text, ""]))
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
