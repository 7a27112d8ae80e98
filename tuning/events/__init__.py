"""What happened in a study, on disk."""
