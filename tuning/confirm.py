"""Confirm the best trials of a study on fresh draws: ``python tuning/confirm.py --dataset apy``.

A search does so at its end; this does it for a study that has already ended, or adds the trials
run since. Nothing that has already been confirmed on these draws is run again.
"""

from __future__ import annotations

from argparse import Namespace

from tuning.cli.command_line import Parser
from tuning.cli.options import TRAINING, add_shared, positive_int
from tuning.spec.choices import DEFAULT_FRESH_DRAWS

PARSER = Parser(__doc__)
add_shared(PARSER, *TRAINING, "--model", "--storage")
PARSER.add_argument(
    "--draws", type=positive_int, default=DEFAULT_FRESH_DRAWS, help="fresh draws for each trial"
)
PARSER.add_argument(
    "--brief", action="store_true", help="do not print which trial is chosen, and why"
)


@PARSER.command
def main(options: Namespace) -> int:
    from tuning.cli.confirm_study import confirm_study

    return confirm_study(options)


if __name__ == "__main__":
    main()
