"""What a study is: its space, its objective, its models, and the records of it."""
