"""Final training: train with several seeds, record the test, and show both."""
