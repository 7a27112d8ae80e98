"""Write the report of a study as one page: ``python tuning/study_report.py --dataset apy``.

Everything on it is read back from MLflow, so this also works later, on another machine, and for a
study that is still running. The page and its data also become artifacts of the study's run.
"""

from __future__ import annotations

from argparse import Namespace

from tuning.cli.command_line import Parser
from tuning.cli.options import STUDY, absolute_path, add_shared

PARSER = Parser(__doc__)
add_shared(PARSER, *STUDY, "--storage")
PARSER.add_argument(
    "--output", type=absolute_path, help="file to write (default: <storage>/<study>/report.html)"
)
PARSER.add_argument("--brief", action="store_true", help="do not print where the page is")


@PARSER.command
def main(options: Namespace) -> int:
    from tuning.cli.write_report import write_report

    return write_report(options)


if __name__ == "__main__":
    main()
