"""The hyperparameter search: space, engine, recording, selection, and the command lines."""

from tuning.spec.version import __version__

__all__ = ["__version__"]
