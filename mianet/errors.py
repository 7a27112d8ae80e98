"""The errors that commands report in one line."""

from mianet.addresses import without_credentials

MAX_LINE = 1600
"""Longest message, in characters; two long paths and the reason fit."""


class InputError(Exception):
    """Unusable input from the user, raised by the code that reads it.

    The message says what was expected, what was given and what to do; commands print it as one
    line and exit with code 2.
    """

    def __str__(self) -> str:
        """Return the message as one line, whatever text a file or argument put in it."""
        return one_line(super().__str__())


def one_line(text: str) -> str:
    """Return a text as one line that is safe to print: no control characters, no credentials.

    Control characters are escaped: a name from a file or an argument must not break the line or
    reach the terminal as a command. The middle of a very long text is cut.
    """
    text = without_credentials(text)
    if len(text) > MAX_LINE:
        text = f"{text[: MAX_LINE // 2]} … {text[-MAX_LINE // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type name if there is none."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")


class DivergedError(ArithmeticError):
    """Training produced NaN or infinity: the configuration is infeasible; retrying cannot help."""
