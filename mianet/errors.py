"""The error that is the user's to mend."""

MAX_LINE = 1600
"""Letters of a message; two long paths and the reason fit."""


class InputError(Exception):
    """Something that the user gave cannot be used.

    The message says what was expected, what was given and what to do; command lines print it as
    one line and exit with code 2.
    """

    def __str__(self) -> str:
        """Return the message as one line, whatever a file or an argument brought into it."""
        return one_line(super().__str__())


def one_line(text: str) -> str:
    """Return a text with its control characters written out, and its middle cut if very long.

    Names from files and arguments stand in messages: they must not break a line, nor reach the
    terminal as commands.
    """
    if len(text) > MAX_LINE:
        text = f"{text[: MAX_LINE // 2]} … {text[-MAX_LINE // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class DivergedError(ArithmeticError):
    """Training left the finite numbers: this configuration is infeasible; trying again is vain."""
