"""What follows from recorded trials: pure functions, no Ray, no MLflow."""
