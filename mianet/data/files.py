"""Writes files whole or not at all, and computes their digests."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from mianet.errors import InputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path next to a file; what is written there replaces it if the block succeeds."""
    new = path.with_name(f".{path.name}.new")
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"a file must be readable, but {path} is not ({error.strerror}); give another, or "
            "check its permissions and its disk"
        ) from error
