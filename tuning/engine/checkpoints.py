"""A running trial's last state, in one file of the study's storage, from which any worker resumes.

It is only insurance: a trial whose checkpoint is lost starts over and gives the same curve.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch.utils._pytree import tree_leaves

COST_SHARE = 0.02
"""The largest share of a trial's time that may be spent on checkpoints."""

_FIRST_GUESS_BYTES_PER_SECOND = 1e9


Curve: TypeAlias = list[dict[str, float]]
"""What a trial reported after each epoch so far."""

State: TypeAlias = list[dict[str, Any]]
"""What the trial's next epoch depends on, as ``Validation.state`` returns it."""


class CheckpointFile:
    """The checkpoint of one trial.

    Args:
        folder: The study's checkpoints.
        number: The trial's number.
        identity: All that determines the trial's curve; a checkpoint of another is not loaded.
    """

    def __init__(self, folder: Path, number: int, identity: Mapping[str, Any]) -> None:
        self._path = checkpoint_path(folder, number)
        text = json.dumps(identity, sort_keys=True, default=str)
        self._identity = hashlib.sha256(text.encode()).hexdigest()
        self._cost: float | None = None
        self._last = time.monotonic()

    def load(self) -> tuple[Curve, State] | None:
        """Return what was saved; None if there is nothing usable."""
        try:
            saved = torch.load(self._path, map_location="cpu", weights_only=True)
        except Exception:  # a damaged file can raise anything; recompute what was lost
            return None
        if not isinstance(saved, dict) or saved.get("identity") != self._identity:
            return None
        return saved["curve"], saved["state"]

    def save_if_due(self, curve: Curve, state: State) -> None:
        """Save after an epoch, unless that would take more than ``COST_SHARE`` of the time.

        So a trial with long epochs loses at most one of them, and one whose epochs are shorter than
        50 times what a checkpoint takes loses at most that much time. After an OSError, the
        previous checkpoint is still there.
        """
        if self._cost is None:
            tensors = [leaf for leaf in tree_leaves(state) if isinstance(leaf, torch.Tensor)]
            self._cost = sum(t.nbytes for t in tensors) / _FIRST_GUESS_BYTES_PER_SECOND
        started_at = time.monotonic()
        if started_at - self._last < self._cost / COST_SHARE:
            return
        self._save({"identity": self._identity, "curve": curve, "state": state})
        self._last = time.monotonic()
        self._cost = self._last - started_at

    def _save(self, content: Mapping[str, Any]) -> None:
        """Write a temporary file, then rename it: a reader finds the old or the new one, whole."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(f".{uuid.uuid4().hex}")
        try:
            with temporary.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        finally:
            temporary.unlink(missing_ok=True)


def checkpoint_path(folder: Path, number: int) -> Path:
    return folder / f"trial-{number:05d}.pt"


def remove_checkpoint(folder: Path, number: int) -> None:
    """Remove a trial's checkpoint, and any temporary files that killed writers left."""
    for path in folder.glob(f"{checkpoint_path(folder, number).stem}.*"):
        path.unlink(missing_ok=True)
