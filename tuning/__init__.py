"""The hyperparameter search: space, engine, recording, selection, and the command lines."""
