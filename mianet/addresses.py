"""Removes credentials from addresses before they are printed, logged or recorded."""

from __future__ import annotations

import re

HIDDEN = "***"
"""Replaces a password or a token."""

# Schemes and names have a bounded length, so that any text takes linear time.
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,40})://(?P<rest>[^/\s]\S*)")
_SECRET_VALUE = re.compile(
    r"(?P<name>[?&;][^=?&;#\s]{0,80}(?:pass|pwd|token|secret|key|auth|cred|sig)[^=?&;#\s]{0,80}=)"
    r"[^&;#\s]*",
    re.IGNORECASE,
)


def without_credentials(text: str) -> str:
    """Return an address, or a text with addresses in it, with every credential hidden.

    Everything before the last at sign counts as credentials, since a password may have slashes,
    at signs or brackets that should have been escaped. A database's user name is kept; that of a
    web address is not, since it may be a token.
    """
    return _SECRET_VALUE.sub(rf"\g<name>{HIDDEN}", _ADDRESS.sub(_without_user, text))


def _without_user(address: re.Match[str]) -> str:
    credentials, at, host = address["rest"].rpartition("@")
    user, colon, _ = credentials.partition(":")
    if address["scheme"].lower() in ("http", "https"):
        user, colon = "", at
    hidden = f"{user}:{HIDDEN}".lstrip(":") if colon else user
    return f"{address['scheme']}://{hidden}{at}{host}"
