"""The error that is the user's to mend."""


class InputError(Exception):
    """Something that the user gave cannot be used.

    The message says what was expected, what was given and what to do; command lines print it as
    one line and exit with code 2.
    """


class DivergedError(ArithmeticError):
    """Training left the finite numbers: this configuration is infeasible; trying again is vain."""
