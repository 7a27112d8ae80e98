"""Reproduce the paper's tables and figures: ``python tuning/reproduce.py --dataset awa1``.

Every table and figure is written to a folder and recorded in MLflow. This is final evaluation: it
opens the test parts, and nothing that it measures may be used to choose a configuration.
"""

from __future__ import annotations

from argparse import Namespace

from tuning.cli.command_line import Parser
from tuning.cli.options import TRAINING, absolute_path, add_shared, assignment, names, positive_int
from tuning.spec.choices import CONFIGURATIONS

PARSER = Parser(__doc__)
add_shared(PARSER, *TRAINING)
PARSER.add_argument(
    "--only",
    type=names,
    default=(),
    help="tables and figures, separated by commas: table2 to table4, figure4 to figure11",
)
PARSER.add_argument(
    "--config",
    choices=CONFIGURATIONS,
    default="selected",
    help="the configuration that a recorded search selected, or the paper's",
)
PARSER.add_argument(
    "--epochs", type=positive_int, help="epochs per training (default: chosen by the search)"
)
PARSER.add_argument("--seeds", type=positive_int, default=5, help="trainings of each variant")
PARSER.add_argument(
    "--set",
    type=assignment,
    action="append",
    default=[],
    help="name=value of a hyperparameter to change",
)
PARSER.add_argument("--output", type=absolute_path, default="paper", help="default: ./paper")
PARSER.add_argument(
    "--images", type=absolute_path, help="folder with the image files for figure 11"
)


@PARSER.command
def main(options: Namespace) -> int:
    from tuning.cli.reproduce_paper import reproduce_paper

    return reproduce_paper(options)


if __name__ == "__main__":
    main()
