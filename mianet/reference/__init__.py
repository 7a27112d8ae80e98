"""Published zero-shot models to compare MIANet with: each trains like it and scores like it."""
