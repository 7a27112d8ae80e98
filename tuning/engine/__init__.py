"""Running a study with Ray Tune and Optuna."""
