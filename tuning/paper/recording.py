"""Record a reproduction: a run ``paper``, and a run nested in it for each table and figure."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tuning.events.event import now_ms
from tuning.events.projector import CLOSE_SECONDS, UnreachableError, retry_until_done
from tuning.paper.evidence import PaperSetup
from tuning.paper.findings import Experiment, Findings
from tuning.spec.errors import RecordingError
from tuning.spec.objectives import DEFAULT_OBJECTIVE
from tuning.spec.provenance import provenance_tags
from tuning.spec.records import NOTE_TAG, OBJECTIVE_TAG, protocol_key
from tuning.tracking.experiments import experiment_for
from tuning.tracking.recording import Recorder
from tuning.tracking.requests import EndRun, LogDataset, Request, Runs, StartRun, values
from tuning.tracking.store import open_store


@dataclass(frozen=True)
class LogFolder(Request):
    """All files of a folder become artifacts of a run; sending them again replaces them."""

    folder: Path

    def send(self, runs: Runs) -> None:
        runs.client.log_artifacts(runs.id_of(self.run), str(self.folder))


class UnloggedRuns(Runs):
    """A run, created at once, and those nested in it; what cannot be sent goes with the next."""

    def __init__(self, tracking_uri: str, dataset: str, start: StartRun) -> None:
        store = open_store(tracking_uri)
        experiment = experiment_for(store, dataset)
        super().__init__(store.client, experiment.experiment_id)
        with store.requesting("a new run"):
            self.create(start)
        self._uri = store.shown
        self.location = store.location_of(experiment, self.id_of(start.run))

    def put(self, *requests: Request) -> None:
        super().put(*requests)
        with suppress(UnreachableError):
            self.flush()

    def close(self) -> None:
        """Send what is left; a ``RecordingError`` says what did not arrive within a minute."""

        def flushed() -> bool:
            self.flush()
            return True

        problems = []
        if reason := retry_until_done(flushed, CLOSE_SECONDS):
            problems.append(f"{len(self.waiting)} requests did not arrive: {reason}")
        problems += [f"it refused a request: {reason}" for _, reason in self.refused]
        if problems:
            raise RecordingError(
                f"{self._uri} must accept what is recorded, but does not ({'; '.join(problems)})"
            )


class PaperRecorder(Recorder):
    """Records one reproduction; as a context manager it leaves no run running."""

    def __init__(self, tracking_uri: str, setup: PaperSetup, device: str) -> None:
        self._key, self._setup = uuid.uuid4().hex, setup
        self._params = {
            **setup.settings.as_dict(),
            "epochs": setup.epochs,
            "seeds": ", ".join(map(str, setup.seeds)),
        }
        self._tags = {
            "configuration": setup.role,
            "configuration_origin": setup.origin,
            "source_run_id": setup.source_run_id,
            "device": device,
            "dataset": setup.dataset,
            "protocol_key": protocol_key({}),
            "data_digest": setup.data_digest,
            OBJECTIVE_TAG: DEFAULT_OBJECTIVE,
            **provenance_tags(),
        }
        self._failed: list[str] = []
        note = (
            "Tables and figures of the paper, each a run nested in this one with its data and its "
            f"pictures as artifacts. {setup.caption}."
        )
        tags = {**self._tags, "kind": "paper", "status": "running", NOTE_TAG: note}
        start = StartRun(self._key, f"paper ({setup.role})", now_ms(), tags)
        self._runs = UnloggedRuns(tracking_uri, setup.dataset, start)
        self.location = self._runs.location  # an address, or the command that shows it
        self._runs.put(
            LogDataset(self._key, setup, "reproduction"),
            values(self._key, now_ms(), params=self._params),
        )

    def record_findings(self, experiment: Experiment, findings: Findings, folder: Path) -> None:
        """Record what an experiment found.

        Args:
            experiment: The table or figure.
            findings: Its text and figures.
            folder: Its files, which become artifacts.
        """
        key = self._start(experiment, "\n\n".join(findings.text))
        self._runs.put(values(key, now_ms(), metrics=findings.metrics), LogFolder(key, folder))
        self._end(key, "finished")

    def record_failure(self, experiment: Experiment, reason: str) -> None:
        self._failed.append(experiment.name)
        self._end(self._start(experiment, reason), "failed", reason)

    def close(self, status: str = "finished", *, note: str = "") -> None:
        """End the run, and deliver everything; a ``RecordingError`` says what did not arrive."""
        if self._failed and status == "finished":
            status, note = "failed", f"nothing to show: {', '.join(self._failed)}"
        self._end(self._key, status, note)
        self._runs.close()

    def _start(self, experiment: Experiment, text: str) -> str:
        key, now = uuid.uuid4().hex, now_ms()
        note = f"**{experiment.title}**\n\n{self._setup.caption}.\n\n{text}"
        about = {"kind": "experiment", "experiment": experiment.name, NOTE_TAG: note}
        params = {**self._params, "arms": ", ".join(experiment.arms)}
        self._runs.put(
            StartRun(key, experiment.name, now, {**self._tags, **about}, parent=self._key),
            values(key, now, params=params),
        )
        return key

    def _end(self, key: str, status: str, reason: str = "") -> None:
        now, tags = now_ms(), {"status": status, "reason": reason}
        self._runs.put(values(key, now, tags=tags), EndRun(key, status, now))
