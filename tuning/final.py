"""Train the best recorded configuration and test it: ``python tuning/final.py --dataset apy``.

The configuration is read back from MLflow, so this works on another day and on another machine.
Apart from ``reproduce.py`` it is the only command that opens the test parts.
"""

from __future__ import annotations

from tuning.cli.command_line import Parser, command
from tuning.cli.options import TRAINING, add_shared, positive_int


@command
def main() -> int:
    """Run the command line; exit with its code."""
    options = _parser().parse_args()
    # Loads PyTorch, Ray and MLflow, which --help need not wait for.
    from tuning.cli.train_and_test import train_and_test

    return train_and_test(options)


def _parser() -> Parser:
    parser = Parser(__doc__)
    add_shared(parser, *TRAINING, "--model", "--storage")
    parser.add_argument("--seeds", type=positive_int, default=5, help="trainings to average over")
    parser.add_argument(
        "--brief", action="store_true", help="do not print which trial is chosen, nor the table"
    )
    return parser


if __name__ == "__main__":
    main()
