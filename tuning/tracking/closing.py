"""How a recorder ends when what it records does."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

from tuning.spec.errors import RecordingError

_logger = logging.getLogger(__name__)


class Closing(ABC):
    """A recorder that is a context manager: however its block ends, no run is left running."""

    @abstractmethod
    def close(self, status: str = "finished", *, note: str = "") -> Any:
        """End what is recorded, and deliver everything.

        Args:
            status: ``finished``, ``failed`` or ``interrupted``.
            note: Why, for a person.

        Raises:
            RecordingError: Something did not reach the store; says what and why.
        """

    def close_quietly(self, status: str, note: str) -> None:
        """Close; where that fails only say so, since what ends the work matters more."""
        try:
            self.close(status, note=note)
        except RecordingError as loss:
            _logger.error("%s", loss)  # noqa: TRY400

    def __enter__(self) -> Self:
        """Return the recorder."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close: as failed or interrupted where an exception ends the block."""
        if error is None:
            self.close()
            return
        status = "failed" if isinstance(error, Exception) else "interrupted"
        self.close_quietly(status, f"Ended by {type(error).__name__}: {error}")
