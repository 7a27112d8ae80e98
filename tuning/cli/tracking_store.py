"""Which tracking store a command uses."""

from __future__ import annotations

import argparse
import sys

from mianet.addresses import HIDDEN, without_credentials
from tuning.tracking.store import absolute_tracking_uri, default_tracking_uri


def tracking_uri(options: argparse.Namespace) -> str:
    """Return the tracking store that was asked for.

    A password on the command line, which every user of the machine can read, gives a warning.
    """
    given = options.tracking_uri
    if given and HIDDEN not in given and without_credentials(given) != given:
        print(
            "warning: every user of this machine can read the password in --tracking-uri; set "
            "MLFLOW_TRACKING_URI to the address instead",
            file=sys.stderr,
        )
    return absolute_tracking_uri(given) if given else default_tracking_uri()
