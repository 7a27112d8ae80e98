"""What the commands ``python -m mianet.…`` share: their parser, exit codes and errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from mianet.errors import InputError, one_line


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and a hint at --help; exit with code 2."""
        self.exit(2, f"error: {one_line(message)} (--help lists the options)\n")


def run(command: Callable[[], int], interrupted: str) -> int:
    """Run a command; return its exit code, 2 on an InputError, 130 if interrupted."""
    try:
        return command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130


def whole_number(minimum: int) -> Callable[[str], int]:
    """Return a parser of an option's whole number that is at least ``minimum``."""

    def read(text: str) -> int:
        if text.isascii() and text.isdecimal() and len(text) < 11 and int(text) >= minimum:
            return int(text)
        raise argparse.ArgumentTypeError(
            f"must be a whole number of at least {minimum}, but got {text!r}"
        )

    return read
