"""A data set: its sources, what it must hold, how it is stored, and who may read which part."""
