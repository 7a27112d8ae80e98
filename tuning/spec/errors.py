"""Errors of a study that a command reports in one line; those of the user are ``InputError``."""

from __future__ import annotations


class RecordingError(RuntimeError):
    """Something that was recorded did not reach the tracking store."""
