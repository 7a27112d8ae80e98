"""A data set: its sources, what it must contain, how it is stored, and who may read which part."""
