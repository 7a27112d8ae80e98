"""MLflow: writing and reading back. Nothing else imports it."""
