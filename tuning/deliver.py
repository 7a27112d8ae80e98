"""Deliver what was recorded while the tracking store was offline: ``python tuning/deliver.py``.

A search or a final training with the same ``--storage`` and store also does so when it starts.
"""

from __future__ import annotations

import sys
from argparse import Namespace

from mianet.addresses import without_credentials
from tuning.cli.command_line import FAILED, Parser
from tuning.cli.options import add_shared

PARSER = Parser(__doc__)
add_shared(PARSER, "--storage")
PARSER.add_argument(
    "--tracking-uri", help="address of the store, if it has moved (default: as recorded)"
)


@PARSER.command
def main(options: Namespace) -> int:
    """Deliver what is waiting; return the exit code: 1 if something still is."""
    from tuning.tracking.address import default_tracking_uri
    from tuning.tracking.backlog import deliver_waiting

    given, default = options.tracking_uri, default_tracking_uri()
    logs = list(
        deliver_waiting(
            options.storage,
            lambda to: given or (default if to == without_credentials(default) else to),
        )
    )
    for log in logs:
        print(log, file=sys.stderr if log.reason else sys.stdout, flush=True)
    if not logs:
        print(f"nothing is waiting to be delivered in {options.storage}")
    return FAILED if any(log.reason for log in logs) else 0


if __name__ == "__main__":
    main()
