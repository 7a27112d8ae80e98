"""The hyperparameter search: space, algorithms, recording, selection, and the command lines."""
