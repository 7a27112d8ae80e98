"""The version of this project; must match ``pyproject.toml``."""

__version__ = "0.2.0"
