"""Confirm the best trials of a study on fresh draws: ``python tuning/confirm.py --dataset apy``.

A search does this at its end. Use this command for a study that has already ended, or to include
trials that were run since. Trials that are already confirmed on these draws are not run again.
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
    "--brief", action="store_true", help="do not print which trial is selected and why"
)


@PARSER.command
def main(options: Namespace) -> int:
    from tuning.cli.confirm_study import confirm_study

    return confirm_study(options)


if __name__ == "__main__":
    main()
