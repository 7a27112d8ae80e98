"""Choose the best configuration among recorded trials of the same data, protocol and objective.

If some were confirmed, the choice is among those, by the mean over searched and fresh draws; its
reported figures then come from the fresh draws alone, which had no part in making it a contender.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mianet.errors import InputError
from tuning.analysis.comparison import paired_difference, pareto_front, standard_error
from tuning.spec.choices import MIANET
from tuning.spec.objectives import OBJECTIVES
from tuning.spec.records import RecordedTrial, canonical_json, listed

_DIGEST_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The chosen trial, and what it was chosen from."""

    trial: RecordedTrial
    # the newest trial of the paper's configuration among the candidates, if any
    paper: RecordedTrial | None
    confirmed: bool  # whether the choice is by fresh draws
    # the trials to choose from, the best first: all candidates, or those run on fresh draws
    compared: tuple[RecordedTrial, ...]
    # their Pareto front, sorted by the first objective, if there are several; else empty
    front: tuple[RecordedTrial, ...]
    why: str  # the choice in words


def candidates(
    trials: Sequence[RecordedTrial],
    *,
    study: str | None = None,
    data_digest: str | None = None,
    model: str = MIANET,
) -> list[RecordedTrial]:
    """Return the comparable trials that may be chosen, the highest score first.

    If the trials differ in protocol, objective or version of the data, only those that agree with
    the newest study in all three are compared. Among equal scores, the trial that started first
    comes first.

    Args:
        trials: Recorded trials of one data set.
        study: Only those of the studies of this name.
        data_digest: Only those of this version of the data.
        model: Only those of this model.

    Raises:
        InputError: No trial can be chosen; says how the trials ended.
    """
    group = _comparable(_fitting(trials, study, data_digest, model))
    ranked = sorted(
        (trial for trial in group if trial.is_candidate),
        key=lambda trial: (-trial.score, trial.started, trial.number, trial.run_id),
    )
    if not ranked:
        raise InputError(
            "selection needs a trial that ended well, with a score of all its executions, but "
            f"there is none among {_counted(group)}; run a longer or different search"
        )
    return ranked


def select(
    trials: Sequence[RecordedTrial],
    *,
    study: str | None = None,
    data_digest: str | None = None,
    model: str = MIANET,
) -> Selection:
    """Choose the best of the ``candidates``: by fresh draws if there are any, else by score.

    Only trials confirmed on the same fresh draws are compared by them: the draws that most have.

    Args:
        trials: Recorded trials of one data set.
        study: Only those of the studies of this name.
        data_digest: Only those of this version of the data.
        model: Only those of this model.

    Raises:
        InputError: No trial can be chosen; says how the trials ended.
    """
    fitting = _fitting(trials, study, data_digest, model)
    ranked = candidates(fitting, model=model)
    confirmed = _confirmed(ranked)
    order, fresh = confirmed or ranked, bool(confirmed)
    best, front = order[0], front_of(order, fresh=fresh)
    why = [_by_fresh_draws(confirmed, len(ranked)) if fresh else _by_score(ranked)]
    if front:
        why.append(
            f"{front_sentence(front, fresh=fresh)}. Trial {best.number} is chosen from it because "
            f"its {best.symbol} is the highest."
        )
    papers = [trial for trial in ranked if trial.is_paper]
    return Selection(
        trial=best,
        paper=max(papers, key=lambda trial: trial.started, default=None),
        confirmed=fresh,
        compared=tuple(order),
        front=tuple(front),
        why=" ".join([*why, *_left_out(best, fitting)]),
    )


def _fitting(
    trials: Sequence[RecordedTrial], study: str | None, data_digest: str | None, model: str
) -> list[RecordedTrial]:
    if not trials:
        raise InputError("selection needs a recorded trial, but there is none; run a search first")
    named = [trial for trial in trials if study in (None, trial.study)]
    if not named:
        names = sorted({trial.study for trial in trials})
        raise InputError(f"the study must be one of {listed(names)}, but got {study!r}")
    same_model = [trial for trial in named if trial.model == model]
    if not same_model:
        models = sorted({trial.model for trial in named})
        raise InputError(
            f"selection needs trials of the model {model}, but there are only trials of "
            f"{listed(models)}; give another --model if the command has it, or run a search of "
            f"{model} first"
        )
    fitting = [trial for trial in same_model if data_digest in (None, trial.data_digest)]
    if not fitting:
        digests = sorted({trial.data_digest[:_DIGEST_SHOWN] for trial in same_model})
        raise InputError(
            f"trials must be recorded on this data ({(data_digest or '')[:_DIGEST_SHOWN]}…), but "
            f"these are from other data ({listed(digests)}); run a search on this data, or give "
            "the data they were recorded on"
        )
    return fitting


def _confirmed(ranked: Sequence[RecordedTrial]) -> list[RecordedTrial]:
    """Return the trials run on fresh draws: the best of those with most draws, then the others.

    The others are ordered by how close they come to it on the draws that both have: a confirmation
    gives better trials more draws.
    """
    confirmed = [trial for trial in ranked if trial.confirmation]
    if not confirmed:
        return []
    best = max(
        confirmed,
        key=lambda trial: (len(trial.all_draws), statistics.fmean(trial.all_draws.values())),
    )
    others = sorted(
        (trial for trial in confirmed if trial is not best),
        key=lambda trial: -paired_difference(trial.all_draws, best.all_draws).mean,
    )
    return [best, *others]


def _comparable(trials: Sequence[RecordedTrial]) -> list[RecordedTrial]:
    newest = max(trials, key=lambda trial: (trial.study_started, trial.study_run_id, trial.started))
    return [trial for trial in trials if _comparison_key(trial) == _comparison_key(newest)]


def _comparison_key(trial: RecordedTrial) -> tuple[str, str, str]:
    return (trial.protocol_key, trial.data_digest, trial.objective)


def _counted(trials: Sequence[RecordedTrial]) -> str:
    counts = Counter(trial.status for trial in trials)
    ends = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    incomplete = sum(trial.executions < trial.planned_executions for trial in trials)
    return f"{len(trials)} trials ({ends}; {incomplete} without all executions)"


def _by_score(ranked: Sequence[RecordedTrial]) -> str:
    best = ranked[0]
    oldest_first = sorted(ranked, key=lambda trial: trial.study_started)
    studies = list(dict.fromkeys(trial.study for trial in oldest_first))
    tie = len(ranked) > 1 and ranked[1].score == best.score
    return (
        f"Trial {best.number} of study {best.study} has the highest score, "
        f"{best.symbol} {100 * best.score:.2f}% at epoch {best.best_epoch}, of {len(ranked)} "
        f"candidates of {listed(studies)}."
        + (" Among equal scores, the trial that started first is chosen." if tie else "")
    )


def _by_fresh_draws(confirmed: Sequence[RecordedTrial], among: int) -> str:
    best, fresh = confirmed[0], confirmed[0].fresh_draws
    sentences = [
        f"Trial {best.number} of study {best.study} is the best of {len(confirmed)} confirmed "
        f"among {among} candidates, by all its draws: {best.symbol} {_with_error(fresh)} on "
        f"{len(fresh)} fresh draws at epoch {best.best_epoch}, "
        f"{100 * best.score:.2f}% when searched."
    ]
    if len(confirmed) > 1:
        second = confirmed[1]
        difference = paired_difference(fresh, second.fresh_draws)
        verdicts = {1: "is worse", 0: "cannot be told apart from it", -1: "is better there"}
        sentences.append(
            f"The second, trial {second.number}, {verdicts[difference.sign]}: {difference}."
        )
    papers = [trial for trial in confirmed if trial.is_paper and trial is not best]
    if papers:
        difference = paired_difference(fresh, papers[0].fresh_draws)
        sentences.append(f"Against the paper's configuration: {difference}.")
    return " ".join(sentences)


def objective_values(trial: RecordedTrial, *, fresh: bool) -> tuple[float, ...]:
    """Return the means of a trial's objectives, when searched or on fresh draws."""
    figures = trial.metrics
    if fresh:
        figures = trial.confirmation.metrics if trial.confirmation else {}
    return tuple(figures.get(name, math.nan) for name in OBJECTIVES[trial.objective].values)


def front_of(trials: Sequence[RecordedTrial], *, fresh: bool) -> list[RecordedTrial]:
    """Return the Pareto front of comparable trials; empty if there is a single objective."""
    if not trials or not OBJECTIVES[trials[0].objective].has_several:
        return []
    points = {place: objective_values(trial, fresh=fresh) for place, trial in enumerate(trials)}
    known = {place: values for place, values in points.items() if all(map(math.isfinite, values))}
    return [trials[place] for place in pareto_front(known)]


def front_sentence(front: Sequence[RecordedTrial], *, fresh: bool) -> str:
    """Return a Pareto front of H and T1 as a sentence."""
    values = [(trial, objective_values(trial, fresh=fresh)) for trial in front]
    named = [f"trial {t.number} (H {100 * h:.2f}, T1 {100 * t1:.2f})" for t, (h, t1) in values]
    return f"Pareto front {'on fresh draws' if fresh else 'when searched'}: {listed(named)}"


def _with_error(fresh: Mapping[int, float]) -> str:
    values = list(fresh.values())
    error = f" ± {100 * standard_error(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{error}%"


def _left_out(best: RecordedTrial, fitting: Sequence[RecordedTrial]) -> Iterator[str]:
    if others := {_comparison_key(trial) for trial in fitting} - {_comparison_key(best)}:
        yield (
            f"Trials with {len(others)} other combinations of protocol, objective and data version "
            f"were left out: the newest study's is used ({canonical_json(best.protocol)}, "
            f"objective {best.objective}, data {best.data_digest[:_DIGEST_SHOWN]}…)."
        )
