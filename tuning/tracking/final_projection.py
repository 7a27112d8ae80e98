"""What MLflow is told of a configuration that is run several times.

A final training has several seeds and scores the test parts once a seed; a confirmation has several
fresh draws of the validation protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tuning.events.event import Closed, Event, FinalStarted, Opening, SeedDone, TextAdded
from tuning.events.state import State
from tuning.spec.records import CONFIRMATION, NOTE_TAG, FinalDescription, mean_and_sd
from tuning.tracking import descriptions
from tuning.tracking.requests import (
    LogDataset,
    LogText,
    Request,
    StartRun,
    common_tags,
    ended,
    values,
)
from tuning.tracking.run_projection import RunProjection

_CONTEXTS = {"final": "final training", CONFIRMATION: "confirmation"}
"""Kind of run → what MLflow shows that its data set was used for."""


class FinalProjection(RunProjection):
    """The run of a final training or a confirmation, as it follows from its log."""

    def requests(self, event: Event) -> Iterator[Request]:
        """Yield what the store must be sent of the next event; the state is that before it."""
        if isinstance(event, FinalStarted):
            yield self._start(event)
            yield LogDataset(event.key, event.description, _CONTEXTS[event.description.kind])
            yield values(event.key, event.time_ms, params=_params_of(event.description))
            return
        (key,) = self.keys_of(self.state)
        if isinstance(event, SeedDone):
            step = len(self.state.seeds)
            yield values(key, event.time_ms, metrics=event.metrics, step=step)
        elif isinstance(event, TextAdded):
            yield LogText(key, event.path, event.text)
        elif isinstance(event, Closed):
            metrics = {
                **mean_and_sd(self.state.seeds),
                "duration_seconds": self.state.work.seconds(event.time_ms),
                **event.summary,
            }
            tags = {"status": event.status, "reason": event.note}
            yield values(key, event.time_ms, metrics=metrics, tags=tags)
            yield ended(key, event.status, event.time_ms)

    def keys_of(self, state: State) -> Iterable[str]:
        """Return our key of the run."""
        return [state.opening.key] if state.opening else []

    def name_of(self, key: str, state: State) -> str:
        """Return the name of the run."""
        return _name(_described(state.opening))

    def _start(self, opening: Opening) -> StartRun:
        about = _described(opening)
        tags = {**_tags_of(about), **opening.provenance}
        return StartRun(opening.key, _name(about), opening.time_ms, tags)


def _described(opening: Opening | None) -> FinalDescription:
    if not isinstance(opening, FinalStarted):
        raise TypeError(f"the log must be of a final training, but begins with {opening}")
    return opening.description


def _name(about: FinalDescription) -> str:
    return f"{about.kind} ({about.role})"


def _tags_of(about: FinalDescription) -> dict[str, str]:
    return {
        "kind": about.kind,
        "role": about.role,
        "status": "running",
        "device": about.device,
        "source_run_id": about.source_run_id,
        "mlflow.parentRunId": about.study_run_id,
        **common_tags(
            dataset=about.dataset,
            study=about.study,
            protocol=about.protocol,
            data_digest=about.data_digest,
            objective=about.objective,
        ),
        NOTE_TAG: descriptions.NOTES[about.kind](
            about.dataset_title, about.role, about.epochs, about.seeds
        ),
    }


def _params_of(about: FinalDescription) -> dict[str, object]:
    return descriptions.flattened(
        {
            **about.settings,
            **about.hyperparameters,
            "epochs": about.epochs,
            "seeds": ", ".join(map(str, about.seeds)),
            "source_run_id": about.source_run_id,
        }
    )
