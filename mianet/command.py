"""How the commands ``python -m mianet.…`` begin and end: their parser, exit code, and errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from mianet.errors import InputError, one_line


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and the way to help; exit with code 2."""
        self.exit(2, f"error: {one_line(message)} (--help lists the options)\n")


def run(command: Callable[[], int], interrupted: str) -> int:
    """Run a command; return its code, 2 for the user to do something first, 130 if interrupted."""
    try:
        return command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130


def whole_number(least: int) -> Callable[[str], int]:
    """Return how an option's whole number is read that is not less than another."""

    def read(text: str) -> int:
        if text.isascii() and text.isdecimal() and len(text) < 11 and int(text) >= least:
            return int(text)
        raise argparse.ArgumentTypeError(
            f"must be a whole number of at least {least}, but got {text!r}"
        )

    return read
