"""Write the report of a study as one page: ``python tuning/study_report.py --dataset apy``.

Everything on it is read back from MLflow, so this works on another day and on another machine, and
for a study that still runs. The page also becomes an artifact of the study's run, with its data.
"""

from __future__ import annotations

from tuning.cli.command_line import Parser, command
from tuning.cli.options import STUDY, absolute_path, add_shared


@command
def main() -> int:
    """Run the command line; exit with its code."""
    options = _parser().parse_args()
    # Loads MLflow and SciPy, which --help need not wait for.
    from tuning.cli.write_report import write_report

    return write_report(options)


def _parser() -> Parser:
    parser = Parser(__doc__)
    add_shared(parser, *STUDY, "--storage")
    parser.add_argument(
        "--output",
        type=absolute_path,
        help="file to write (default: <storage>/<study>/report.html)",
    )
    parser.add_argument("--brief", action="store_true", help="do not print where the page is")
    return parser


if __name__ == "__main__":
    main()
