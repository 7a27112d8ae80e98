"""How a command begins and ends: its parser, errors in one line, and its exit code.

The exit code is 0, or 1 if something failed, 2 for an error in the input, 130 for an interrupt.
"""

from __future__ import annotations

import argparse
import functools
import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

import mianet.command
from mianet.errors import one_line
from tuning.spec.errors import RecordingError
from tuning.spec.version import __version__

FAILED = 1
INTERRUPTED = 130


class Parser(mianet.command.Parser):
    """A parser with a ``--version`` option."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, allow_abbrev=False)
        self.add_argument("--version", action="version", version=f"mianet-tuning {__version__}")

    def command(self, main: Callable[[argparse.Namespace], int]) -> Callable[[], NoReturn]:
        """Turn a function of the options into a command; ``--help`` does not load its imports."""
        return command(lambda: main(self.parse_args()))


def command(main: Callable[[], int]) -> Callable[[], NoReturn]:
    """Turn a function into a command: exit with its code; report user errors in one line."""

    @functools.wraps(main)
    def run() -> NoReturn:
        os.umask(os.umask(0) | 0o002)  # let nobody else change what is written
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # some terminals cannot show every character
                stream.reconfigure(errors="backslashreplace")
        try:
            sys.exit(mianet.command.run(main, "interrupted"))
        except RecordingError as error:
            print(f"error: {one_line(str(error))}", file=sys.stderr)
            sys.exit(FAILED)

    return run
