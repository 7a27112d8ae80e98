"""Train the best recorded configuration and test it: ``python tuning/final.py --dataset apy``.

The configuration is read back from MLflow, so this also works later and on another machine.
Apart from ``reproduce.py`` it is the only command that opens the test parts.
"""

from __future__ import annotations

from argparse import Namespace

from tuning.cli.command_line import Parser
from tuning.cli.options import TRAINING, add_shared, positive_int

PARSER = Parser(__doc__)
add_shared(PARSER, *TRAINING, "--model", "--storage")
PARSER.add_argument("--seeds", type=positive_int, default=5, help="trainings to average over")
PARSER.add_argument(
    "--brief", action="store_true", help="do not print the selected trial or the results"
)


@PARSER.command
def main(options: Namespace) -> int:
    from tuning.cli.train_and_test import train_and_test

    return train_and_test(options)


if __name__ == "__main__":
    main()
