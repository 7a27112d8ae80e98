"""Search MIANet's hyperparameters on a data set: ``python tuning/search.py --dataset apy``."""

from __future__ import annotations

from tuning.cli.command_line import command
from tuning.cli.search_options import parse_search_options


@command
def main() -> int:
    """Run the command line; exit with its code."""
    options, given = parse_search_options(__doc__)
    # Loads NumPy and Ray, which --help need not wait for.
    from tuning.cli.search_study import search_study

    return search_study(options, given)


if __name__ == "__main__":
    main()
