"""Errors of a study that a command line reports in one line; the user's own are ``InputError``."""

from __future__ import annotations


class RecordingError(RuntimeError):
    """Something that was recorded did not reach the tracking store."""
