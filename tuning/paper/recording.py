"""Record a reproduction: a run ``paper``, and a run nested in it for each table and figure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuning.events.event import now_ms
from tuning.paper.evidence import Setup
from tuning.paper.findings import Experiment, Findings
from tuning.spec.provenance import provenance_tags
from tuning.spec.records import NOTE_TAG
from tuning.tracking.closing import Closing
from tuning.tracking.requests import (
    LogDataset,
    Request,
    Runs,
    StartRun,
    common_tags,
    ended,
    values,
)
from tuning.tracking.unlogged import UnloggedRuns


@dataclass(frozen=True)
class LogFolder(Request):
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
    """Records one reproduction. As a context manager it leaves no run running.

    Args:
        tracking_uri: The store.
        description: What is known of the reproduction.

    Attributes:
        location: Where a person finds the run: an address, or the command that shows it.

    Raises:
        InputError: The store does not answer or cannot be written to; found in seconds.
    """

    def __init__(self, tracking_uri: str, description: PaperDescription) -> None:
        self._key, setup = uuid.uuid4().hex, description.setup
        self._description = description
        self._failed: list[str] = []
        self._closed = False
        note = (
            "Tables and figures of the paper, each a run nested in this one with its data and its "
            f"pictures as artifacts. {setup.caption}."
        )
        tags = {**_tags(description), "kind": "paper", "status": "running", NOTE_TAG: note}
        start = StartRun(self._key, f"paper ({setup.role})", now_ms(), tags)
        self._runs = UnloggedRuns(tracking_uri, description.dataset, start)
        self.location = self._runs.location
        self._runs.put(
            LogDataset(self._key, description, "reproduction"),
            values(self._key, now_ms(), params=_params(setup)),
        )

    def found(self, experiment: Experiment, findings: Findings, folder: Path) -> None:
        """Record what an experiment found; the folder's files become its artifacts."""
        key, now = self._start(experiment, "\n\n".join(findings.text)), now_ms()
        self._runs.put(
            values(key, now, metrics=findings.metrics, tags={"status": "finished"}),
            LogFolder(key, folder),
            ended(key, "finished", now),
        )

    def failed(self, experiment: Experiment, reason: str) -> None:
        """Record that an experiment has nothing to show."""
        key = self._start(experiment, reason)
        self._failed.append(experiment.name)
        self._end(key, "failed", reason)

    def close(self, status: str = "finished", *, note: str = "") -> None:
        """End the run, and deliver everything. A second call does nothing.

        Args:
            status: ``finished``, ``failed`` or ``interrupted``.
            note: Why, for a person.

        Raises:
            RecordingError: Something did not reach the store; says what and why.
        """
        if self._closed:
            return
        self._closed = True
        if self._failed and status == "finished":
            status, note = "failed", f"nothing to show: {', '.join(self._failed)}"
        self._end(self._key, status, note)
        self._runs.close()

    def _end(self, key: str, status: str, note: str) -> None:
        now = now_ms()
        self._runs.put(
            values(key, now, tags={"status": status, "reason": note}), ended(key, status, now)
        )

    def _start(self, experiment: Experiment, text: str) -> str:
        key, setup = uuid.uuid4().hex, self._description.setup
        tags = {
            **_tags(self._description),
            "kind": "experiment",
            "experiment": experiment.name,
            NOTE_TAG: f"**{experiment.title}**\n\n{setup.caption}.\n\n{text}",
        }
        params = {**_params(setup), "arms": ", ".join(experiment.arms)}
        now = now_ms()
        self._runs.put(
            StartRun(key, experiment.name, now, tags, parent=self._key),
            values(key, now, params=params),
        )
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
        **provenance_tags(),
    }


def _params(setup: Setup) -> dict[str, Any]:
    return {
        **setup.settings.as_dict(),
        "epochs": setup.epochs,
        "seeds": ", ".join(map(str, setup.seeds)),
    }
