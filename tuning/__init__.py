"""The hyperparameter search: space, engine, recording, selection, and the command lines."""

__version__ = "0.2.0"
