"""What MLflow is told of a study: its run, and a run nested in it for each trial."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from tuning.analysis.front import pareto_front
from tuning.events.event import Closed, Ended, EpochDone, Event, Opened, Opening, Proposed
from tuning.events.log import EventLog
from tuning.events.state import MOST_NONFINITE, State, TrialState, nonfinite
from tuning.spec.objectives import OBJECTIVES
from tuning.spec.records import (
    EXECUTIONS_TAG,
    FRONT_TAG,
    LOG10_PREFIX,
    NOTE_TAG,
    PAPER,
    SPACE_TAG,
    STATUSES,
    StudyDescription,
    best_figures,
    canonical_json,
    means,
    per_execution,
)
from tuning.spec.space import space_to_json
from tuning.tracking import descriptions
from tuning.tracking.requests import (
    LogDataset,
    Request,
    ResumeRun,
    StartRun,
    common_tags,
    ended,
    values,
)
from tuning.tracking.run_projection import RunProjection, new_figures
from tuning.tracking.store import TrackingStore

NONFINITE_TAG = "nonfinite_metrics"
UNLOGGED_TAG = "beyond_the_log"
"""The tag of a study whose end was sent although a full disk did not take it into the log: a search
that goes on does that part again."""
_CONTEXT = "search"


class StudyProjection(RunProjection):
    """A study's run and its trials' runs, as they follow from the study's log."""

    def __init__(self, log: EventLog, store: TrackingStore, experiment_id: str) -> None:
        super().__init__(log, store, experiment_id)
        self._known = log.state
        self._told: dict[str, dict[str, float]] = defaultdict(dict)
        """Figures of a whole run that were sent: of the study, and of interrupted trials."""

    def requests(self, event: Event) -> Iterator[Request]:
        """Yield what the store must be sent of the next event; the state is that before it."""
        if isinstance(event, Opened):
            yield from self._go_on(event) if self.state.opening else self._begin(event)
        elif isinstance(event, Proposed):
            yield from self._propose(event)
        elif isinstance(event, EpochDone):
            yield self._epoch(event)
        elif isinstance(event, Ended):
            trial = self.state.trials[event.number]
            yield from self._end_trial(trial, event.status, event.reason, event.time_ms)
            self._told.pop(self._key(event.number), None)
        elif isinstance(event, Closed):
            for trial in self.state.running:
                yield from self._end_trial(
                    trial, "interrupted", "The study ended before it.", event.time_ms
                )
            yield from self._end_study(event)

    def take_unkept(self, events: Sequence[Event]) -> None:
        """Work out what the store is sent of events that the log does not have; mark the study."""
        now = values(self._opened.key, events[0].time_ms, tags={UNLOGGED_TAG: "true"})
        self.sender.put(now)
        super().take_unkept(events)

    def start(self, opening: Opening) -> str:
        """Create the study's run, or find it again; forget what the log does not know of it.

        Raises:
            InputError: The store does not accept it, or does not have what it should.
        """
        run_id, client = super().start(opening), self.runs.client
        if self._known.trials and UNLOGGED_TAG in client.get_run(run_id).data.tags:
            for trial in self.runs.nested_in(run_id):
                known = self._known.trials.get(int(trial.data.tags.get("number", -1)))
                is_trial = trial.data.tags["kind"] == "trial"
                if is_trial and (known is None or known.status == "running"):
                    client.delete_run(trial.info.run_id)
            self.mark(0)  # everything is sent again, which adds what was deleted
            client.delete_tag(run_id, UNLOGGED_TAG)
        return run_id

    def keys_of(self, state: State) -> Iterable[str]:
        """Return our keys of the study's run and of its trials' runs."""
        if state.opening is None:
            return []
        key = state.opening.key
        return [key, *map(partial(trial_key, key), state.trials)]

    def name_of(self, key: str, state: State) -> str:
        """Return the name of the run of a key of ours, given what the log amounts to."""
        opened = _opened(state)
        if key == opened.key:
            return opened.description.name
        return _name(state.trials[int(key.removeprefix(f"{opened.key}-"))].proposed)

    @property
    def _opened(self) -> Opened:
        return _opened(self.state)

    @property
    def _study(self) -> StudyDescription:
        return self._opened.description

    def _key(self, number: int) -> str:
        return trial_key(self._opened.key, number)

    def _start(self, opening: Opening) -> StartRun:
        if not isinstance(opening, Opened):
            raise TypeError(f"the log must be of a study, but begins with {opening}")
        tags = {
            "kind": "study",
            "status": "running",
            "protocol": canonical_json(opening.description.protocol),
            **_study_tags(opening),
        }
        return StartRun(opening.key, opening.description.name, opening.time_ms, tags)

    def _begin(self, event: Opened) -> Iterator[Request]:
        yield self._start(event)
        yield LogDataset(event.key, event.description, _CONTEXT)
        params = descriptions.study_params(event.description)
        yield values(event.key, event.time_ms, params=params)

    def _go_on(self, event: Opened) -> Iterator[Request]:
        """Show what goes on as running: the study, and the trials that have not ended."""
        yield ResumeRun(event.key)
        tags = {"status": "running", **_study_tags(event)}
        yield values(event.key, event.time_ms, tags=tags)
        for trial in self.state.running:
            key = self._key(trial.number)
            yield ResumeRun(key)
            tags = {"status": "running", "reason": "Went on after an interruption."}
            yield values(key, event.time_ms, tags=tags)

    def _propose(self, event: Proposed) -> Iterator[Request]:
        key, hyperparameters = self._key(event.number), self._hyperparameters(event)
        tags = {
            "kind": "trial",
            "status": "running",
            "number": str(event.number),
            "origin": event.origin,
            "device": self._opened.device,
            **_tags(self._opened),
            NOTE_TAG: self._note(event),
        }
        yield StartRun(key, _name(event), event.time_ms, tags, parent=self._opened.key)
        yield LogDataset(key, self._study, _CONTEXT)
        yield values(key, event.time_ms, params=hyperparameters)

    def _epoch(self, event: EpochDone) -> Request:
        tags, before = {}, self.state.trials[event.number].nonfinite
        found = nonfinite(event) if len(before) < MOST_NONFINITE else []
        if found:
            named = [f"{name} = {value} at epoch {epoch}" for name, value, epoch in before + found]
            tags[NONFINITE_TAG] = "; ".join(named)
        if event.best_epoch == event.epoch:
            tags[EXECUTIONS_TAG] = json.dumps(per_execution(event.metrics, self._study.objective))
        key, metrics = self._key(event.number), means(event.metrics)
        return values(key, event.time_ms, metrics=metrics, tags=tags, step=event.epoch)

    def _end_trial(
        self, trial: TrialState, status: str, reason: str, time_ms: int
    ) -> Iterator[Request]:
        key, name = self._key(trial.number), self._study.objective
        figures = {
            **_summary(trial),
            "epochs": trial.epoch,
            "duration_seconds": trial.work.seconds(time_ms),
            **self._logarithms(trial.proposed),
        }
        outcome = descriptions.outcome_line(
            status, OBJECTIVES[name].metric, trial.score, trial.best_epoch, trial.epoch, reason
        )
        note = f"{self._note(trial.proposed)}\n\n{outcome}"
        yield values(
            key,
            time_ms,
            metrics=new_figures(self._told[key], figures),
            tags={"status": status, "reason": reason, NOTE_TAG: note},
        )
        yield ended(key, status, time_ms)

    def _end_study(self, event: Closed) -> Iterator[Request]:
        counts = self.state.counts
        counts["interrupted"] = counts.pop("running", 0)
        counts = +counts
        seconds, best = self.state.work.seconds(event.time_ms), self.state.chosen
        metrics: dict[str, float] = {
            "trials": len(self.state.trials),
            **{f"trials_{name}": counts[name] for name in STATUSES},
            "duration_seconds": seconds,
            **event.summary,
        }
        tags = {"status": event.status, NOTE_TAG: self._closing_note(event, counts, seconds)}
        if best:
            metrics |= {"best_score": best.score, "best_epoch": best.best_epoch}
            metrics |= best_figures(best.best)
            tags |= {"best_trial": _name(best.proposed), **self._front_tag()}
            # Tags, since a study that goes on may find a better one and MLflow's params are final.
            hyperparameters = self._hyperparameters(best.proposed)
            tags |= {f"best.{name}": str(value) for name, value in hyperparameters.items()}
        key = self._opened.key
        new = new_figures(self._told[key], metrics)
        yield values(key, event.time_ms, metrics=new, tags=tags)
        yield ended(key, event.status, event.time_ms)

    def _closing_note(self, event: Closed, counts: Counter[str], seconds: float) -> str:
        best, line, searched = self.state.chosen, "", {}
        if best:
            metric = OBJECTIVES[self._study.objective].metric
            name = _name(best.proposed)
            line = descriptions.score_line(name, metric, best.score, best.best_epoch)
            searched = self._searched(best.proposed)
        result = descriptions.study_result(counts, seconds, line, searched)
        parts = [descriptions.study_note(self._study, result), event.note]
        return "\n\n".join(part for part in parts if part)

    def _front_tag(self) -> dict[str, str]:
        """Return the tag that names the trials of the Pareto front, where there can be one."""
        if not self.state.objective.has_several:
            return {}
        front = pareto_front({trial.number: trial.values for trial in self.state.candidates})
        return {FRONT_TAG: ", ".join(map(str, front))}

    def _hyperparameters(self, proposed: Proposed) -> dict[str, Any]:
        return {**self._opened.hyperparameters, **proposed.configuration}

    def _searched(self, proposed: Proposed) -> dict[str, Any]:
        hyperparameters = self._hyperparameters(proposed)
        return {
            name: hyperparameters[name] for name in self._study.space if name in hyperparameters
        }

    def _note(self, proposed: Proposed) -> str:
        return descriptions.trial_note(
            self._study, proposed.number, proposed.origin, self._hyperparameters(proposed)
        )

    def _logarithms(self, proposed: Proposed) -> dict[str, float]:
        return {
            f"{LOG10_PREFIX}{name}": math.log10(value)
            for name, value in self._searched(proposed).items()
            if getattr(self._study.space[name], "log", False) and value > 0
        }


def trial_key(study_key: str, number: int) -> str:
    """Return our key of a trial's run."""
    return f"{study_key}-{number:05d}"


def _opened(state: State) -> Opened:
    if not isinstance(state.opening, Opened):
        raise TypeError("the log must be of a study")
    return state.opening


def _name(proposed: Proposed) -> str:
    return f"trial {proposed.number:03d}" + (" (paper)" if proposed.origin == PAPER else "")


def _summary(trial: TrialState) -> dict[str, float]:
    """Return the score and what belongs to it, where there is one."""
    if not trial.best_epoch:
        return {}
    return {"score": trial.score, "best_epoch": trial.best_epoch, **best_figures(trial.best)}


def _tags(opening: Opened) -> dict[str, str]:
    about = opening.description
    common = common_tags(
        dataset=about.dataset,
        study=about.name,
        protocol=about.protocol,
        data_digest=about.data_digest,
        objective=about.objective,
    )
    return {**common, **opening.provenance}


def _study_tags(opening: Opened) -> Mapping[str, str]:
    return {
        **_tags(opening),
        SPACE_TAG: space_to_json(opening.description.space),
        NOTE_TAG: descriptions.study_note(opening.description),
    }
