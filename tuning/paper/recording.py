"""Record a reproduction: a run ``paper``, and a run nested in it for each table and figure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tuning.paper.evidence import Setup
from tuning.paper.findings import Experiment, Findings
from tuning.spec.records import NOTE_TAG
from tuning.tracking.closing import Closing
from tuning.tracking.run_messages import RunMessage, Runs, StartRun, now_ms
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


@dataclass(frozen=True)
class LogFolder(RunMessage):
    """All files of a folder become artifacts of a run; sent again, they replace themselves."""

    folder: Path

    def send(self, runs: Runs) -> None:
        """Upload the files."""
        runs.client.log_artifacts(runs.id_of(self.run), str(self.folder))


@dataclass(frozen=True, kw_only=True)
class PaperDescription:
    """Everything about a reproduction that is known before it.

    Attributes:
        setup: Configuration, epochs and seeds.
        dataset: Canonical name of the data set.
        data_digest: Digest (sha256, hex) of the data set's source.
        data_source: Where it was read.
        data_shape: Sizes by name, as of ``StudyDescription``.
        device: Where it is trained.
    """

    setup: Setup
    dataset: str
    data_digest: str
    data_source: str
    data_shape: Mapping[str, int]
    device: str


class PaperRecorder(Closing):
    """Records one reproduction. As a context manager it leaves no run running."""

    def __init__(self, writer: RunWriter, key: str, description: PaperDescription) -> None:
        """Take over a run that has been created; use ``open``."""
        self.run_id = writer.run_id
        self._writer = writer
        self._key = key
        self._description = description
        self._failed: list[str] = []

    @classmethod
    def open(cls, tracking_uri: str, description: PaperDescription) -> Self:
        """Find the store, and create the run ``paper``.

        Raises:
            InputError: The store does not answer or cannot be written to; found in seconds.
        """
        store = open_store(tracking_uri)
        key, setup = uuid.uuid4().hex, description.setup
        note = (
            "Tables and figures of the paper, each a run nested in this one with its data and its "
            f"pictures as artifacts. {setup.caption}."
        )
        tags = {**_tags(description), "kind": "paper", "status": "running", NOTE_TAG: note}
        start = StartRun(key, f"paper ({setup.role})", now_ms(), tags)
        writer = RunWriter(store, experiment_for(store, description.dataset), start)
        writer.put(dataset_message(key, description, "reproduction"))
        writer.put(values(key, params=_params(setup)))
        return cls(writer, key, description)

    @property
    def location(self) -> str:
        """Return where a person finds the run: an address, or the command that shows it."""
        return self._writer.location

    def found(self, experiment: Experiment, findings: Findings, folder: Path) -> None:
        """Record what an experiment found; the folder's files become its artifacts."""
        key = self._start(experiment, "\n\n".join(findings.text))
        self._writer.put(values(key, metrics=findings.metrics, tags={"status": "finished"}))
        self._writer.put(LogFolder(key, folder))
        self._writer.put(end(key, "finished"))

    def failed(self, experiment: Experiment, reason: str) -> None:
        """Record that an experiment has nothing to show."""
        key = self._start(experiment, reason)
        self._failed.append(experiment.name)
        self._writer.put(values(key, tags={"status": "failed", "reason": reason}))
        self._writer.put(end(key, "failed"))

    def close(
        self,
        status: str = "finished",
        *,
        note: str = "",
        deadline_seconds: float = CLOSE_DEADLINE_SECONDS,
    ) -> None:
        """End the run, and deliver everything.

        Args:
            status: ``finished``, ``failed`` or ``interrupted``.
            note: Why, for a person.
            deadline_seconds: How long to wait for a store that does not answer.

        Raises:
            RecordingError: Something did not reach the store; says what and why.
        """
        if self._writer.closed:
            return
        if self._failed and status == "finished":
            status, note = "failed", f"nothing to show: {', '.join(self._failed)}"
        self._writer.put(values(self._key, tags={"status": status, "reason": note}))
        self._writer.put(end(self._key, status))
        self._writer.close(deadline_seconds)

    def _start(self, experiment: Experiment, text: str) -> str:
        key, setup = uuid.uuid4().hex, self._description.setup
        tags = {
            **_tags(self._description),
            "kind": "experiment",
            "experiment": experiment.name,
            NOTE_TAG: f"**{experiment.title}**\n\n{setup.caption}.\n\n{text}",
        }
        self._writer.put(StartRun(key, experiment.name, now_ms(), tags, parent=self._key))
        arms = {"arms": ", ".join(experiment.arms)}
        self._writer.put(values(key, params={**_params(setup), **arms}))
        return key


def _tags(description: PaperDescription) -> dict[str, str]:
    setup = description.setup
    return {
        "configuration": setup.role,
        "configuration_origin": setup.origin,
        "source_run_id": setup.source_run_id,
        "device": description.device,
        **common_tags(
            dataset=description.dataset,
            study="",
            protocol={},
            data_digest=description.data_digest,
        ),
    }


def _params(setup: Setup) -> dict[str, Any]:
    return {
        **setup.settings.as_dict(),
        "epochs": setup.epochs,
        "seeds": ", ".join(map(str, setup.seeds)),
    }
