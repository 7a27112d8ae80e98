"""Published zero-shot models to compare with MIANet; each trains and scores like it."""
