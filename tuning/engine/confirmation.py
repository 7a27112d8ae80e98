"""Confirm the best few configurations of a study on draws that had no part in choosing them.

The best of many noisy means is too good to be true: it was chosen partly for its luck. So those
that cannot be told apart from it meet fresh draws, each at its own best epoch, and the selection
goes by those (docs/method.md).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
from scipy import stats

from mianet.config import Settings
from mianet.data.datasets import find_dataset
from mianet.data.search_data import SearchData
from mianet.errors import DivergedError, InputError
from mianet.evaluation import Outcome, summarise
from mianet.processor import use_threads
from mianet.validation import score_execution
from tuning.analysis.comparison import paired_difference
from tuning.compute.cluster import Share
from tuning.compute.display import Display
from tuning.compute.waiting import Tasks, Timed
from tuning.spec.models import MODELS, read_settings
from tuning.spec.objectives import CALIBRATION, OBJECTIVES
from tuning.spec.records import COMPUTE_SECONDS, CONFIRMATION, RecordedTrial
from tuning.tracking.recording import FinalDescription, FinalRecorder

MOST_CONTENDERS = 6
"""Configurations that are confirmed at most, beside the paper's."""
RISK = 0.05
"""Of leaving out, of all others together, one that is as good as the best."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The fresh draws of a confirmation: what a study's executions are, with later numbers.

    Attributes:
        data: What the study searched on.
        source: Where that came from.
        first: Number of the first; the executions of the study come before it.
        count: How many.
        seed: The study's.
    """

    data: SearchData
    source: str
    first: int
    count: int
    seed: int

    @property
    def numbers(self) -> range:
        """Return the executions' numbers."""
        return range(self.first, self.first + self.count)


def contenders(trials: Sequence[RecordedTrial]) -> list[RecordedTrial]:
    """Return the trials worth confirming, the best first, then the paper's.

    Those are the best by score, and whichever the shared draws cannot tell apart from it.

    Args:
        trials: Comparable trials, the best first.
    """
    best, *others = trials
    near = [trial for trial in others if _within_noise(best, trial, len(others))]
    chosen = [best, *near][:MOST_CONTENDERS]
    papers = [trial for trial in trials if trial.is_paper and trial not in chosen]
    return chosen + papers[:1]


def _within_noise(best: RecordedTrial, other: RecordedTrial, comparisons: int) -> bool:
    """Say whether the shared draws cannot tell two trials apart, as one of many comparisons.

    One-sided by Student's t, the risk divided among the comparisons (Bonferroni): the best of many
    is ahead by luck more often than one pair would say.
    """
    if not best.per_execution.keys() & other.per_execution.keys():
        return True  # a record of an earlier version; nothing tells them apart
    difference = paired_difference(best.per_execution, other.per_execution)
    if math.isnan(difference.standard_error):
        return True
    quantile = float(stats.t.ppf(1 - RISK / comparisons, difference.draws - 1))
    return difference.mean <= quantile * difference.standard_error


def fresh_draws(
    trials: Sequence[RecordedTrial], data: SearchData, source: str, count: int
) -> Draws:
    """Return the draws that follow those of the trials' study.

    Raises:
        InputError: The study's record does not say what its draws were.
    """
    protocol = trials[0].protocol
    try:
        first, seed = int(protocol["executions"]), int(protocol["seed"])
    except (KeyError, ValueError) as error:
        raise InputError(
            f"the record of study {trials[0].study} must say its executions and seed, but has "
            f"{dict(protocol)}; confirm a study of this version, or run a new one"
        ) from error
    return Draws(data=data, source=source, first=first, count=count, seed=seed)


def confirm(
    trials: Sequence[RecordedTrial],
    draws: Draws,
    share: Share,
    uri: str,
    storage: Path,
    display: Display,
) -> None:
    """Run every contender among the trials on fresh draws; record each in a run of its own.

    Args:
        trials: Comparable trials, the best first.
        draws: The fresh draws.
        share: How executions share the cluster.
        uri: The tracking store that the trials were read from.
        storage: Folder of studies, where what is recorded waits until it is delivered.
        display: Where a person follows it.
    """
    chosen = [trial for trial in contenders(trials) if not _is_confirmed(trial, draws)]
    display.say(
        f"confirming {len(chosen)} configurations on {draws.count} fresh draws each, "
        f"{share.workers} at once, {share.each}"
    )
    data, tasks = ray.put(draws.data), Tasks("confirming", share, display)
    running = [_start(trial, draws, data, share, tasks) for trial in chosen]
    for trial, references in zip(chosen, running, strict=True):
        with FinalRecorder.open(uri, _describe(trial, draws, share), storage) as recorder:
            what = f"trial {trial.number}, {draws.count} fresh draws"
            timed = [tasks.awaited(reference, what) for reference in references]
            display.say(f"trial {trial.number}: {_record(trial, draws, timed, recorder)}")


def _is_confirmed(trial: RecordedTrial, draws: Draws) -> bool:
    return trial.confirmation is not None and set(trial.confirmation.per_draw) == set(draws.numbers)


def _start(
    trial: RecordedTrial, draws: Draws, data: ray.ObjectRef, share: Share, tasks: Tasks
) -> list[ray.ObjectRef]:
    settings, epochs = read_settings(trial.hyperparameters), trial.best_epoch
    return [
        tasks.start(_score, data, settings, epochs, number, draws.seed, share.threads, share.device)
        for number in draws.numbers
    ]


def _score(
    data: SearchData,
    settings: Settings,
    epochs: int,
    execution: int,
    seed: int,
    threads: int,
    device: str,
) -> Outcome | DivergedError:
    use_threads(threads)
    try:
        return score_execution(
            data,
            settings,
            epochs=epochs,
            execution=execution,
            seed=seed,
            device=device,
            begin=MODELS[settings.model].begin,
        )
    except DivergedError as error:
        return error


def _record(
    trial: RecordedTrial, draws: Draws, timed: Sequence[Timed], recorder: FinalRecorder
) -> str:
    """Record what the draws gave; return it in words."""
    results = [one.result for one in timed]
    objective = OBJECTIVES[trial.objective]
    scores: dict[str, float] = {}
    outcomes = {n: r for n, r in zip(draws.numbers, results, strict=True) if isinstance(r, Outcome)}
    if outcomes:
        summary = summarise(list(outcomes.values()))
        for number, metrics in zip(outcomes, summary.executions, strict=True):
            figures = objective.with_metric(metrics.as_dict("val_"))
            recorder.seed_finished(figures | {CALIBRATION: summary.calibration})
            scores[f"{objective.execution_prefix}{number}"] = figures[objective.metric]
    diverged = [str(r) for r in results if isinstance(r, DivergedError)]
    recorder.close(
        "failed" if diverged else "finished",
        note="; ".join(diverged),
        summary={**scores, COMPUTE_SECONDS: sum(one.seconds for one in timed)},
    )
    return _outcome(trial, scores, diverged)


def _outcome(trial: RecordedTrial, scores: Mapping[str, float], diverged: Sequence[str]) -> str:
    if diverged:
        return f"diverged on {len(diverged)} of its fresh draws, {diverged[0]}"
    mean = statistics.fmean(scores.values())
    return f"{trial.symbol} {100 * trial.score:.2f} when searched, {100 * mean:.2f} on fresh draws"


def _describe(trial: RecordedTrial, draws: Draws, share: Share) -> FinalDescription:
    images, feature_dim = draws.data.features.shape
    return FinalDescription(
        kind=CONFIRMATION,
        role=f"trial {trial.number:03d}",
        dataset=draws.data.name,
        dataset_title=find_dataset(draws.data.name).title,
        data_digest=draws.data.digest,
        data_source=draws.source,
        data_shape={"rows": images, "feature_dim": feature_dim},
        hyperparameters=read_settings(trial.hyperparameters).as_dict(),
        epochs=trial.best_epoch,
        seeds=list(draws.numbers),
        study=trial.study,
        study_run_id=trial.study_run_id,
        source_run_id=trial.run_id,
        protocol=trial.protocol,
        settings={"cpus": share.cpus, "gpus": share.gpus},
        device=share.device,
        objective=trial.objective,
    )
