"""Final training of the selected and of the paper's configuration."""
