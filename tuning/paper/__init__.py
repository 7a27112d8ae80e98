"""The tables and figures of the paper, reproduced on a data set."""
