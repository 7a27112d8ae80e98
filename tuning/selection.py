"""Choose the best configuration among recorded trials.

Only trials whose scores can be compared are compared: same data, same protocol. A trial counts if
it ended well and all its executions have a score; one that was stopped early counts by the best
epoch that it reached.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mianet.config import Hyperparameters
from mianet.errors import InputError
from tuning.records import PAPER, RecordedTrial, canonical_json, listed

_DIGEST_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The chosen trial, and what it was chosen from.

    Attributes:
        trial: The best.
        runner_up: The second best, if there is one.
        paper: The newest trial of the paper's configuration among the candidates, if any.
        candidates: How many trials were compared.
        studies: Names of the studies that they are from, the oldest first.
        protocol_key: The protocol that they share.
        data_digest: The data that they share.
        why: The choice in words, for a person.
    """

    trial: RecordedTrial
    runner_up: RecordedTrial | None
    paper: RecordedTrial | None
    candidates: int
    studies: tuple[str, ...]
    protocol_key: str
    data_digest: str
    why: str

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Return the chosen configuration.

        Raises:
            InputError: Another version of the code recorded what this one does not know.
        """
        return Hyperparameters.from_mapping(self.trial.hyperparameters)

    @property
    def epochs(self) -> int:
        """Return the number of epochs that the configuration was best at."""
        return self.trial.best_epoch


def select(
    trials: Sequence[RecordedTrial], *, study: str | None = None, data_digest: str | None = None
) -> Selection:
    """Choose the trial with the highest score.

    Where trials of several protocols or of several versions of the data are given, those that
    agree with the newest study in both are compared. Of equal scores the trial that started first
    is chosen.

    Args:
        trials: Recorded trials of one data set.
        study: Only those of the studies of this name.
        data_digest: Only those of this version of the data.

    Raises:
        InputError: No trial can be chosen; says how the trials ended.
    """
    if not trials:
        raise InputError(
            "a recorded trial is needed to select from, but there is none; run a search first"
        )
    named = [trial for trial in trials if study in (None, trial.study)]
    if not named:
        names = sorted({trial.study for trial in trials})
        raise InputError(f"the study must be one of {listed(names)}, but got {study!r}")
    fitting = _of_data(named, data_digest)
    group = _comparable(fitting)
    ranked = sorted((trial for trial in group if trial.is_candidate), key=_rank)
    if not ranked:
        raise InputError(
            "a trial that ended well, with a score of all its executions, is needed to select "
            f"from, but there is none among {_described(group)}; run a longer or another search"
        )
    best = ranked[0]
    papers = [trial for trial in ranked if trial.origin == PAPER]
    return Selection(
        trial=best,
        runner_up=ranked[1] if len(ranked) > 1 else None,
        paper=max(papers, key=lambda trial: trial.started, default=None),
        candidates=len(ranked),
        studies=_studies(ranked),
        protocol_key=best.protocol_key,
        data_digest=best.data_digest,
        why=_why(ranked, group, fitting),
    )


def _rank(trial: RecordedTrial) -> tuple[float, int, int, str]:
    return (-trial.score, trial.started, trial.number, trial.run_id)


def _of_data(trials: Sequence[RecordedTrial], data_digest: str | None) -> list[RecordedTrial]:
    fitting = [trial for trial in trials if data_digest in (None, trial.data_digest)]
    if not fitting:
        found = sorted({trial.data_digest[:_DIGEST_SHOWN] for trial in trials})
        raise InputError(
            f"trials must be recorded on the data at hand ({(data_digest or '')[:_DIGEST_SHOWN]}…)"
            f", but these are of other data ({listed(found)}); run a search on it, or give the "
            "data that they were recorded on"
        )
    return fitting


def _comparable(trials: Sequence[RecordedTrial]) -> list[RecordedTrial]:
    newest = max(trials, key=lambda trial: (trial.study_started, trial.study_run_id, trial.started))
    return [trial for trial in trials if _world(trial) == _world(newest)]


def _world(trial: RecordedTrial) -> tuple[str, str]:
    return (trial.protocol_key, trial.data_digest)


def _studies(trials: Iterable[RecordedTrial]) -> tuple[str, ...]:
    oldest_first = sorted(trials, key=lambda trial: trial.study_started)
    return tuple(dict.fromkeys(trial.study for trial in oldest_first))


def _described(trials: Sequence[RecordedTrial]) -> str:
    counts = Counter(trial.status for trial in trials)
    ends = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    incomplete = sum(trial.executions < trial.planned_executions for trial in trials)
    return f"{len(trials)} trials ({ends}; {incomplete} without all executions)"


def _why(
    ranked: Sequence[RecordedTrial],
    group: Sequence[RecordedTrial],
    fitting: Sequence[RecordedTrial],
) -> str:
    best = ranked[0]
    sentences = [
        f"Trial {best.number} of study {best.study} has the highest score, {100 * best.score:.2f}%"
        f" at epoch {best.best_epoch}, of {len(ranked)} candidates among {_described(group)} of "
        f"{listed(_studies(ranked))}."
    ]
    others = {_world(trial) for trial in fitting} - {_world(best)}
    if others:
        sentences.append(
            f"Trials of {len(others)} other protocols or versions of the data were left out: "
            f"the newest study's is used ({canonical_json(best.protocol)}, data "
            f"{best.data_digest[:_DIGEST_SHOWN]}…)."
        )
    if len(ranked) > 1 and ranked[1].score == best.score:
        sentences.append("Of equal scores the trial that started first is chosen.")
    return " ".join(sentences)
