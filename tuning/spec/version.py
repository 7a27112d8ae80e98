"""The version of this project; ``pyproject.toml`` says the same."""

__version__ = "0.2.0"
