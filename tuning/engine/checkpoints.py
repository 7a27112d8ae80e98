"""Where a running trial can be taken up again: its last state, in one file, replaced at once.

A worker writes it and any other one may read it, provided that they share the study's storage. It
is an insurance, not a record: a trial whose checkpoint is lost begins again and gives the same
curve.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

COST_SHARE = 0.02
"""The most of a trial's time that is spent on checkpoints."""

_FIRST_GUESS_BYTES_PER_SECOND = 1e9


@dataclass(frozen=True)
class Checkpoint:
    """A trial between two epochs.

    Attributes:
        curve: What was reported after each epoch so far.
        state: What the next epoch depends on, as ``Validation.state`` returns it.
    """

    curve: Sequence[Mapping[str, float]]
    state: Sequence[Mapping[str, Any]]


class CheckpointFile:
    """The checkpoint of one trial.

    Args:
        folder: The study's checkpoints.
        number: The trial's.
        identity: All that decides the trial's curve; a checkpoint of anything else is not loaded.
    """

    def __init__(self, folder: Path, number: int, identity: Mapping[str, Any]) -> None:
        self._path = checkpoint_path(folder, number)
        text = json.dumps(identity, sort_keys=True, default=str)
        self._identity = hashlib.sha256(text.encode()).hexdigest()
        self._cost: float | None = None
        self._last = time.monotonic()

    def load(self) -> Checkpoint | None:
        """Return the checkpoint; None where there is none that can be used."""
        try:
            saved = torch.load(self._path, map_location="cpu", weights_only=True)
        except Exception:  # a damaged file raises anything; what was lost is computed again
            return None
        if not isinstance(saved, dict) or saved.get("identity") != self._identity:
            return None
        return Checkpoint(saved["curve"], saved["state"])

    def save_if_due(self, checkpoint: Checkpoint) -> None:
        """Save after an epoch, unless that would take more than ``COST_SHARE`` of the time.

        So a trial whose epochs are long loses at most one of them, and one whose epochs are
        shorter than 50 times what a checkpoint takes loses at most that much time.

        Raises:
            OSError: It cannot be written; the one before it is still there.
        """
        if self._cost is None:
            self._cost = _size(checkpoint.state) / _FIRST_GUESS_BYTES_PER_SECOND
        begun = time.monotonic()
        if begun - self._last < self._cost / COST_SHARE:
            return
        self._save(checkpoint)
        self._last = time.monotonic()
        self._cost = self._last - begun

    def _save(self, checkpoint: Checkpoint) -> None:
        """Write beside it, then rename: a reader finds the old one or the new one, whole."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written = self._path.with_suffix(f".{uuid.uuid4().hex}")
        try:
            with written.open("wb") as file:
                torch.save(
                    {
                        "identity": self._identity,
                        "curve": list(checkpoint.curve),
                        "state": list(checkpoint.state),
                    },
                    file,
                )
                file.flush()
                os.fsync(file.fileno())
            written.replace(self._path)
        finally:
            written.unlink(missing_ok=True)


def checkpoint_path(folder: Path, number: int) -> Path:
    """Return where a trial's checkpoint is."""
    return folder / f"trial-{number:05d}.pt"


def remove_checkpoint(folder: Path, number: int) -> None:
    """Remove a trial's checkpoint, and what writers that were killed left of it."""
    for path in folder.glob(f"{checkpoint_path(folder, number).stem}.*"):
        path.unlink(missing_ok=True)


def _size(state: Any) -> int:
    """Return the bytes of all tensors."""
    if isinstance(state, torch.Tensor):
        return state.nbytes
    if isinstance(state, Mapping):
        return sum(map(_size, state.values()))
    if isinstance(state, Sequence) and not isinstance(state, str):
        return sum(map(_size, state))
    return 0
