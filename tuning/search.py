"""Search MIANet's hyperparameters on a data set: ``python tuning/search.py --dataset apy``."""

from __future__ import annotations

from typing import NoReturn

from tuning.cli.command_line import run
from tuning.cli.search_options import parse_search_options


def main() -> NoReturn:
    """Run the command line and exit."""
    run(search)


def search() -> int:
    """Do what the command line says; return the exit code."""
    given = parse_search_options(__doc__)
    # Loads PyTorch, Ray and MLflow, which --help need not wait for.
    from tuning.cli.search_study import search_study

    return search_study(given)


if __name__ == "__main__":
    main()
