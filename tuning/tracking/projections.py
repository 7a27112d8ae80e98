"""What MLflow is sent from a log: requests as a function of the state and the next event.

A study has a run, and a run nested in it for each trial; final trainings have one each.
"""

from __future__ import annotations

import json
import logging
import math
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, cast

from mianet.errors import InputError
from mianet.protocol import TRAINED_SHARE
from tuning.analysis.comparison import pareto_front
from tuning.events.event import (
    Closed,
    Ended,
    EpochDone,
    Event,
    Opened,
    Proposed,
    SeedDone,
    TextAdded,
)
from tuning.events.log import CURSOR_FILE, EventLog, read_cursor, write_cursor
from tuning.events.projector import Projection
from tuning.events.state import MAX_NONFINITE, State, TrialState, nonfinite
from tuning.spec import records
from tuning.spec.records import FinalDescription, StudyDescription
from tuning.spec.space import space_to_json
from tuning.tracking import descriptions
from tuning.tracking.requests import (
    EndRun,
    LogDataset,
    LogText,
    Request,
    ResumeRun,
    Runs,
    StartRun,
    values,
)
from tuning.tracking.store import PARENT_TAG, TrackingStore

NONFINITE_TAG = "nonfinite_metrics"
UNLOGGED_TAG = "beyond_the_log"
"""The tag of a study whose end was sent although a full disk kept it out of the log: a resumed
search repeats that part."""
_CONTEXTS = {"study": "search", "final": "final training", records.CONFIRMATION: "confirmation"}
"""Kind of run → what MLflow says its data set was used for."""

_logger = logging.getLogger(__name__)


class RunProjection(Projection):
    """An MLflow run, and those nested in it, as derived from a log."""

    receiver = "tracking store"

    def __init__(self, log: EventLog, store: TrackingStore, experiment_id: str) -> None:
        self._folder, self._store, self._known = log.folder, store, log.state
        self.state = State()  # of the log, up to the last event taken
        self.runs = Runs(store.client, experiment_id)
        if opening := log.state.opening:
            trials = [trial_key(opening.key, number) for number in log.state.trials]
            self.runs.expect([opening.key, *trials])

    @property
    def cursor(self) -> int:
        return read_cursor(self._folder)

    def mark(self, end: int) -> None:
        write_cursor(self._folder, end)

    def learn(self, event: Event) -> None:
        if not isinstance(event, EpochDone):
            list(self.requests(event))  # which notes what was sent
        self.state.apply(event)

    def handle(self, event: Event) -> None:
        self.runs.put(*self.requests(event))
        self.state.apply(event)

    def take_unsaved(self, events: Sequence[Event]) -> None:
        for event in events:
            self.handle(event)

    def flush(self) -> None:
        self.runs.flush()

    def abandon(self) -> None:
        self.runs.abandoned = True

    def end(self, error: Exception) -> None:
        _logger.error(
            "delivery to the %s failed; nothing more will be sent", self.receiver, exc_info=error
        )

    def start(self, opening: Opened) -> str:
        """Create the run of an opening, or find it again; return its MLflow id."""
        with self._store.requesting("a new run"):
            if not self.cursor:
                next(self.requests(opening)).send(self.runs)  # its creation comes first
            if run_id := self.runs.find(opening.key):
                return run_id
        raise InputError(
            f"{opening.description.name} must be in the tracking store to resume, but "
            f"{self._store.uri} does not have it; give the --tracking-uri that it was recorded to, "
            f"or delete {self._folder / CURSOR_FILE} to record all of it again"
        )

    def name_of(self, key: str) -> str:
        opened = self._known.opened
        number = key.removeprefix(opened.key)
        if not number:
            return opened.description.name
        return trial_name(self._known.trials[int(number.removeprefix("-"))].proposed)

    @abstractmethod
    def requests(self, event: Event) -> Iterator[Request]:
        """Yield what to send the store for the next event; the state is the one before it."""


class StudyProjection(RunProjection):
    """A study's run and its trials' runs, as derived from the study's log."""

    def __init__(self, log: EventLog, store: TrackingStore, experiment_id: str) -> None:
        super().__init__(log, store, experiment_id)
        self._sent: dict[str, dict[str, float]] = defaultdict(dict)
        """The whole-run figures already sent, of the study and of interrupted trials."""

    def requests(self, event: Event) -> Iterator[Request]:
        if isinstance(event, Opened):
            yield from self._resume(event) if self.state.opening else self._begin(event)
        elif isinstance(event, Proposed):
            yield from self._propose(event)
        elif isinstance(event, EpochDone):
            yield self._epoch(event)
        elif isinstance(event, Ended):
            trial = self.state.trials[event.number]
            yield from self._end_trial(trial, event.status, event.reason, event.time_ms)
            self._sent.pop(self._key(event.number), None)
        elif isinstance(event, Closed):
            for trial in self.state.running:
                reason = "The study ended before the trial."
                yield from self._end_trial(trial, "interrupted", reason, event.time_ms)
            yield from self._end_study(event)

    def take_unsaved(self, events: Sequence[Event]) -> None:
        """Prepare what to send for events that the log does not have; mark the study."""
        mark = {UNLOGGED_TAG: "true"}
        self.runs.put(values(self.state.opened.key, events[0].time_ms, tags=mark))
        super().take_unsaved(events)

    def start(self, opening: Opened) -> str:
        """Create the study's run, or find it again; drop from it what the log does not have."""
        run_id, client = super().start(opening), self.runs.client
        if self._known.trials and UNLOGGED_TAG in client.get_run(run_id).data.tags:
            for run in self.runs.nested_in(run_id):
                tags = run.data.tags
                known = self._known.trials.get(int(tags.get("number", -1)))
                if tags["kind"] == "trial" and (known is None or known.status == "running"):
                    client.delete_run(run.info.run_id)
            self.mark(0)  # everything is sent again, which adds what was deleted
            client.delete_tag(run_id, UNLOGGED_TAG)
        return run_id

    def _key(self, number: int) -> str:
        return trial_key(self.state.opened.key, number)

    def _begin(self, event: Opened) -> Iterator[Request]:
        about = cast(StudyDescription, event.description)
        tags = {
            "kind": "study",
            "model": about.settings["model"],  # a tag as well: it is there as soon as the run is
            "protocol": records.canonical_json(about.protocol),
            **_study_tags(event),
        }
        yield StartRun(event.key, about.name, event.time_ms, tags)
        yield LogDataset(event.key, about, _CONTEXTS["study"])
        yield values(event.key, event.time_ms, params=descriptions.study_params(about))

    def _resume(self, event: Opened) -> Iterator[Request]:
        """Show as running what is resumed: the study, and the trials that have not ended."""
        yield ResumeRun(event.key)
        yield values(event.key, event.time_ms, tags=_study_tags(event))
        for trial in self.state.running:
            key = self._key(trial.number)
            yield ResumeRun(key)
            tags = {"status": "running", "reason": "Resumed after an interruption."}
            yield values(key, event.time_ms, tags=tags)

    def _propose(self, event: Proposed) -> Iterator[Request]:
        key = self._key(event.number)
        tags = {
            "kind": "trial",
            "status": "running",
            "number": str(event.number),
            "origin": event.origin,
            "device": self.state.opened.device,
            **_tags_of(self.state.opened),
            records.NOTE_TAG: self._note(event),
        }
        yield StartRun(key, trial_name(event), event.time_ms, tags, parent=self.state.opened.key)
        yield LogDataset(key, self.state.study, _CONTEXTS["study"])
        yield values(key, event.time_ms, params=self._hyperparameters(event))

    def _epoch(self, event: EpochDone) -> Request:
        tags, trial = {}, self.state.trials[event.number]
        if (found := nonfinite(event)) and len(trial.nonfinite) < MAX_NONFINITE:
            tags[NONFINITE_TAG] = "; ".join([*trial.nonfinite, *found])
        if event.best_epoch == event.epoch:
            tags[records.EXECUTIONS_TAG] = json.dumps(
                records.per_execution(event.metrics, self.state.study.objective)
            )
        key, metrics = self._key(event.number), records.means(event.metrics)
        return values(key, event.time_ms, metrics=metrics, tags=tags, step=event.epoch)

    def _end_trial(
        self, trial: TrialState, status: str, reason: str, time_ms: int
    ) -> Iterator[Request]:
        key, metric = self._key(trial.number), self.state.objective.metric
        figures: dict[str, float] = {
            "epochs": trial.epoch,
            "duration_seconds": trial.work.seconds(time_ms),
            **self._logarithms(trial.proposed),
        }
        outcome = f"{status.replace('_', ' ').capitalize()} after "
        outcome += records.counted(trial.epoch, "epoch")
        if trial.best_epoch:
            epochs = self.state.objective.final_epochs(trial.curve, TRAINED_SHARE)
            figures |= {"score": trial.score, "best_epoch": trial.best_epoch}
            figures |= {"final_epochs": epochs, **records.best_figures(trial.best)}
            outcome += f"; best {descriptions.score_text(metric, trial)}"
        note = f"{self._note(trial.proposed)}\n\n{outcome}. {reason}".strip()
        tags = {"status": status, "reason": reason, records.NOTE_TAG: note}
        yield values(key, time_ms, metrics=self._changed(key, figures), tags=tags)
        yield EndRun(key, status, time_ms)

    def _end_study(self, event: Closed) -> Iterator[Request]:
        counts = self.state.counts
        counts["interrupted"] = counts.pop("running", 0)
        seconds, best = self.state.work.seconds(event.time_ms), self.state.chosen
        metrics: dict[str, float] = {
            "trials": len(self.state.trials),
            **{f"trials_{name}": counts[name] for name in records.STATUSES},
            "duration_seconds": seconds,
            **event.summary,
        }
        tags = {
            "status": event.status,
            records.NOTE_TAG: self._closing_note(event, +counts, seconds),
        }
        if best:
            metrics |= {"best_score": best.score, "best_epoch": best.best_epoch}
            metrics |= records.best_figures(best.best)
            tags["best_trial"] = trial_name(best.proposed)
            # Tags, since a resumed study may find a better one and MLflow's params are final.
            hyperparameters = self._hyperparameters(best.proposed)
            tags |= {f"best.{name}": str(value) for name, value in hyperparameters.items()}
            if self.state.objective.has_several:
                front = pareto_front({t.number: t.values for t in self.state.candidates})
                tags[records.FRONT_TAG] = ", ".join(map(str, front))
        key = self.state.opened.key
        yield values(key, event.time_ms, metrics=self._changed(key, metrics), tags=tags)
        yield EndRun(key, event.status, event.time_ms)

    def _closing_note(self, event: Closed, counts: Counter[str], seconds: float) -> str:
        trials = ", ".join(f"{count} {status}" for status, count in counts.items())
        result = f"{counts.total()} trials ({trials}) in {descriptions.duration(seconds)}."
        if best := self.state.chosen:
            score = descriptions.score_text(self.state.objective.metric, best)
            searched = descriptions.items(self._searched(best.proposed))
            result += f"\n\nBest: **{trial_name(best.proposed)}**, {score}\n\n{searched}"
        return f"{descriptions.study_note(self.state.study, result)}\n\n{event.note}".strip()

    def _changed(self, key: str, figures: dict[str, float]) -> dict[str, float]:
        """Return the figures of a run that are new or have changed since they were sent."""
        sent = self._sent[key]
        changed = {name: value for name, value in figures.items() if sent.get(name) != value}
        sent |= changed
        return changed

    def _hyperparameters(self, proposed: Proposed) -> dict[str, Any]:
        return {**self.state.opened.hyperparameters, **proposed.configuration}

    def _searched(self, proposed: Proposed) -> dict[str, Any]:
        values = self._hyperparameters(proposed)
        return {name: values[name] for name in self.state.study.space if name in values}

    def _note(self, proposed: Proposed) -> str:
        study = self.state.study
        shown = self._searched(proposed) or self._hyperparameters(proposed)
        return (
            f"Trial {proposed.number} of study `{study.name}` on **{study.dataset_title}**, "
            f"proposed by `{proposed.origin}`.\n\n{descriptions.items(shown)}"
        )

    def _logarithms(self, proposed: Proposed) -> dict[str, float]:
        return {
            f"{records.LOG10_PREFIX}{name}": math.log10(value)
            for name, value in self._searched(proposed).items()
            if getattr(self.state.study.space[name], "log", False) and value > 0
        }


class FinalProjection(RunProjection):
    """The run of a final training of several seeds, or of a confirmation on several fresh draws."""

    def requests(self, event: Event) -> Iterator[Request]:
        if isinstance(event, Opened):
            yield from self._begin(event, cast(FinalDescription, event.description))
            return
        key, seeds = self.state.opened.key, self.state.seeds
        if isinstance(event, SeedDone):
            yield values(key, event.time_ms, metrics=event.metrics, step=len(seeds))
        elif isinstance(event, TextAdded):
            yield LogText(key, event.path, event.text)
        elif isinstance(event, Closed):
            duration = {"duration_seconds": self.state.work.seconds(event.time_ms)}
            metrics = {**records.mean_and_sd(seeds), **duration, **event.summary}
            tags = {"status": event.status, "reason": event.note}
            yield values(key, event.time_ms, metrics=metrics, tags=tags)
            yield EndRun(key, event.status, event.time_ms)

    def _begin(self, event: Opened, about: FinalDescription) -> Iterator[Request]:
        tags = {
            "kind": about.kind,
            "role": about.role,
            "status": "running",
            "device": about.device,
            "source_run_id": about.source_run_id,
            PARENT_TAG: about.study_run_id,
            **_tags_of(event),
            records.NOTE_TAG: descriptions.final_note(about),
        }
        params = {
            **about.settings,
            **about.hyperparameters,
            "epochs": about.epochs,
            "seeds": ", ".join(map(str, about.seeds)),
            "source_run_id": about.source_run_id,
        }
        yield StartRun(event.key, about.name, event.time_ms, tags)
        yield LogDataset(event.key, about, _CONTEXTS[about.kind])
        yield values(event.key, event.time_ms, params=descriptions.flattened(params))


def _tags_of(opening: Opened) -> dict[str, str]:
    """Return the tags common to all runs of a log: what they are about, and their provenance."""
    about = opening.description
    return {
        "study": about.study if isinstance(about, FinalDescription) else about.name,
        "dataset": about.dataset,
        "protocol_key": records.protocol_key(about.protocol),
        "data_digest": about.data_digest,
        records.OBJECTIVE_TAG: about.objective,
        **opening.provenance,
    }


def trial_key(study_key: str, number: int) -> str:
    return f"{study_key}-{number:05d}"


def trial_name(proposed: Proposed) -> str:
    return f"trial {proposed.number:03d}" + (" (paper)" if proposed.origin == records.PAPER else "")


def _study_tags(opening: Opened) -> dict[str, str]:
    about = cast(StudyDescription, opening.description)
    return {
        "status": "running",
        **_tags_of(opening),
        records.SPACE_TAG: space_to_json(about.space),
        records.NOTE_TAG: descriptions.study_note(about),
    }
