"""Record a configuration that is run several times: a final training, or a confirmation.

A final training has several seeds and scores the test parts once a seed; a confirmation has several
fresh draws of the validation protocol.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from tuning.events.journal import JOURNAL_FOLDER, Journal
from tuning.spec.objectives import DEFAULT_OBJECTIVE
from tuning.spec.records import CONFIRMATION, NOTE_TAG, mean_and_sd
from tuning.tracking import descriptions
from tuning.tracking.closing import Closing
from tuning.tracking.run_messages import LogText, StartRun, now_ms
from tuning.tracking.run_writer import (
    CLOSE_DEADLINE_SECONDS,
    RunWriter,
    common_tags,
    dataset_message,
    end,
    experiment_for,
    values,
)
from tuning.tracking.store import open_store

_NOTHING: Mapping[str, float] = MappingProxyType({})
_CONTEXTS = MappingProxyType({"final": "final training", CONFIRMATION: "confirmation"})
"""Kind of run → what MLflow shows that its data set was used for."""


@dataclass(frozen=True, kw_only=True)
class FinalDescription:
    """Everything about a final training, or a confirmation, that is known before it.

    Attributes:
        kind: ``final``, or ``confirmation``.
        role: Which configuration it is: ``selected``, ``paper``, or the trial's name.
        dataset: Canonical name of the data set.
        dataset_title: The name as it is printed.
        data_digest: Digest (sha256, hex) of the data set's source.
        data_source: Path of the source, or ``embedded``.
        data_shape: Sizes by name, as of ``StudyDescription``.
        hyperparameters: All of them.
        epochs: How long each seed is trained.
        seeds: One training each; of a confirmation the numbers of its draws.
        study: Name of the study that the configuration is from.
        study_run_id: That study's run, which this is nested in; empty for none.
        source_run_id: The trial's run that the configuration is from; empty for none.
        protocol: The protocol that the configuration was selected under.
        objective: What the configuration was selected for; a name of ``OBJECTIVES``.
        settings: What else decides the outcome.
        device: Where it is trained.
    """

    role: str
    kind: str = "final"
    dataset: str
    dataset_title: str
    data_digest: str
    data_source: str
    data_shape: Mapping[str, int]
    hyperparameters: Mapping[str, Any]
    epochs: int
    seeds: Sequence[int]
    study: str = ""
    study_run_id: str = ""
    source_run_id: str = ""
    protocol: Mapping[str, Any]
    settings: Mapping[str, Any]
    device: str = ""
    objective: str = DEFAULT_OBJECTIVE


class FinalRecorder(Closing):
    """Records one final training. As a context manager it leaves no run running.

    Attributes:
        run_id: MLflow's run of the final training.
    """

    def __init__(self, writer: RunWriter, key: str, journal: Journal | None) -> None:
        """Take over a run that has been created; use ``open``."""
        self._journal = journal
        self.run_id = writer.run_id
        self._writer = writer
        self._key = key
        self._started = time.monotonic()
        self._per_seed: list[Mapping[str, float]] = []

    @classmethod
    def open(
        cls, tracking_uri: str, description: FinalDescription, storage: Path | None = None
    ) -> Self:
        """Find the store, and create the run, nested in the study's.

        Args:
            tracking_uri: The store.
            description: What is known of the final training.
            storage: Folder of studies, in whose folders what is recorded is kept until it is
                delivered; None to keep it in memory only.

        Raises:
            InputError: The store does not answer or cannot be written to; found in seconds.
        """
        store = open_store(tracking_uri)
        key = uuid.uuid4().hex
        start = StartRun(
            key, f"{description.kind} ({description.role})", now_ms(), _tags_of(description)
        )
        experiment = experiment_for(store, description.dataset)
        journal = Journal(_folder(storage, description, key)) if storage else None
        try:
            writer = RunWriter(store, experiment, start, journal)
        except BaseException:
            if journal:
                journal.discard()
            raise
        writer.put(
            dataset_message(key, description, _CONTEXTS[description.kind]),
            values(key, params=_params_of(description)),
        )
        return cls(writer, key, journal)

    @property
    def location(self) -> str:
        """Return where a person finds the run: an address, or the command that shows it."""
        return self._writer.location

    def seed_finished(self, metrics: Mapping[str, float]) -> None:
        """Record the next seed's metrics; the step is the seed's position, from 0."""
        self._writer.put(values(self._key, metrics=metrics, step=len(self._per_seed)))
        self._per_seed.append(dict(metrics))

    def add_file(self, path: str, text: str) -> None:
        """Record a text as an artifact of the run."""
        self._writer.put(LogText(self._key, path, text))

    def close(
        self,
        status: str = "finished",
        *,
        note: str = "",
        summary: Mapping[str, float] = _NOTHING,
        deadline_seconds: float = CLOSE_DEADLINE_SECONDS,
    ) -> dict[str, float]:
        """Record mean and standard deviation over the seeds, end the run, deliver everything.

        Args:
            status: ``finished``, ``failed`` or ``interrupted``.
            note: Why, for a person.
            summary: Further figures.
            deadline_seconds: How long to wait for a store that does not answer.

        Returns:
            ``<metric>_mean`` and, from two seeds on, ``<metric>_sd``.

        Raises:
            RecordingError: Something did not reach the store; says what and why.
        """
        figures = mean_and_sd(self._per_seed)
        if self._writer.closed:
            return figures
        duration = {"duration_seconds": time.monotonic() - self._started}
        tags = {"status": status, "reason": note}
        self._writer.put(
            values(self._key, metrics={**figures, **duration, **summary}, tags=tags),
            end(self._key, status),
        )
        self._writer.close(deadline_seconds)
        if self._journal:
            _discard(self._journal)  # nothing goes on with a final training
        return figures


def _discard(journal: Journal) -> None:
    """Delete a journal, and the study's folder and the storage where they held nothing else."""
    journal.discard()
    with contextlib.suppress(OSError):
        journal.folder.parent.rmdir()
        journal.folder.parent.parent.rmdir()


def _folder(storage: Path, description: FinalDescription, key: str) -> Path:
    return storage / (description.study or "final") / f"{JOURNAL_FOLDER}-final-{key}"


def _tags_of(description: FinalDescription) -> dict[str, str]:
    return {
        "kind": description.kind,
        "role": description.role,
        "status": "running",
        "device": description.device,
        "source_run_id": description.source_run_id,
        "mlflow.parentRunId": description.study_run_id,
        **common_tags(
            dataset=description.dataset,
            study=description.study,
            protocol=description.protocol,
            data_digest=description.data_digest,
            objective=description.objective,
        ),
        NOTE_TAG: descriptions.NOTES[description.kind](
            description.dataset_title, description.role, description.epochs, description.seeds
        ),
    }


def _params_of(description: FinalDescription) -> dict[str, Any]:
    return descriptions.flattened(
        {
            **description.settings,
            **description.hyperparameters,
            "epochs": description.epochs,
            "seeds": ", ".join(map(str, description.seeds)),
            "source_run_id": description.source_run_id,
        }
    )
