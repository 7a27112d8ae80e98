"""Reproduce the paper's tables and figures: ``python tuning/reproduce.py --dataset awa1``.

Every table and figure is written to a folder and recorded in MLflow. This is final evaluation: it
opens the test parts, and nothing that it measures may choose a configuration.
"""

from __future__ import annotations

from tuning.cli.command_line import Parser, command
from tuning.cli.options import TRAINING, absolute_path, add_shared, assignment, names, positive_int
from tuning.spec.choices import CONFIGURATIONS


@command
def main() -> int:
    """Run the command line; exit with its code."""
    options = _parser().parse_args()
    # Loads PyTorch, Ray and MLflow, which --help need not wait for.
    from tuning.cli.reproduce_paper import reproduce_paper

    return reproduce_paper(options)


def _parser() -> Parser:
    parser = Parser(__doc__)
    add_shared(parser, *TRAINING)
    parser.add_argument(
        "--only",
        type=names,
        default=(),
        help="tables and figures, with commas between them: table2 to table4, figure4 to figure11",
    )
    parser.add_argument(
        "--config",
        choices=CONFIGURATIONS,
        default="selected",
        help="the configuration that a recorded search selected, or the paper's",
    )
    parser.add_argument("--epochs", type=positive_int, help="default: those that the search found")
    parser.add_argument("--seeds", type=positive_int, default=5, help="trainings of each kind")
    parser.add_argument(
        "--set", type=assignment, action="append", default=[], help="name=value of a hyperparameter"
    )
    parser.add_argument("--output", type=absolute_path, default="paper", help="default: ./paper")
    parser.add_argument("--images", type=absolute_path, help="folder with the image files, fig. 11")
    return parser


if __name__ == "__main__":
    main()
