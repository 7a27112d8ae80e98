"""Addresses of tracking stores, which can be checked without loading MLflow."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

from mianet.addresses import HIDDEN, without_credentials
from mianet.errors import InputError

_SCHEMES = ("http", "https", "sqlite", "postgresql")
URI_VARIABLE = "MLFLOW_TRACKING_URI"
DATABASE_FILE = "mlflow.db"
_RESERVED = re.compile(r"[/?#\[\]@:\s\\]")
"""Characters that must be escaped in a password."""


def default_tracking_uri() -> str:
    """Return ``$MLFLOW_TRACKING_URI``, or else ``mlflow.db`` in the current directory, absolute."""
    return absolute_tracking_uri(os.environ.get(URI_VARIABLE) or f"sqlite:///{DATABASE_FILE}")


def absolute_tracking_uri(uri: str) -> str:
    """Return the URI with a database's path made absolute and any hidden password filled in.

    A recorded address hides its password; ``$MLFLOW_TRACKING_URI`` must then be the same address
    with it.

    Raises:
        InputError: A study cannot be recorded to this scheme, the path is missing, or the
            password is missing or not escaped.
    """
    scheme = scheme_of(uri)
    if scheme not in _SCHEMES:
        raise InputError(
            f"the tracking URI must start with one of {', '.join(f'{s}:' for s in _SCHEMES)}, but "
            f"got {uri!r}; for a local database give sqlite:///path/to/{DATABASE_FILE}"
        )
    if scheme != "sqlite":
        return _with_credentials(uri)
    prefix, _, rest = uri.partition("://")
    path, mark, query = rest.removeprefix("/").partition("?")
    if not rest.startswith("/") or path in ("", ":memory:"):
        raise InputError(
            f"a SQLite tracking URI must name a file as sqlite:///path/to/{DATABASE_FILE}, "
            f"but got {uri!r}"
        )
    if mark and "=" not in query:
        raise InputError(
            f"a SQLite tracking URI must have %3F for a question mark in a path, but got {uri!r}"
        )
    path = str(Path(unquote(path)).absolute())
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"the tracking database must have a path in UTF-8, but got {path!r}; work in another "
            "folder, or give another --tracking-uri"
        ) from None
    path = path.replace("%", "%25").replace("?", "%3F")
    # MLflow decodes no path: for "sqlite" it would create an empty folder of the encoded name.
    return f"{'sqlite+pysqlite' if '%' in path else prefix}:///{path}{mark}{query}"


def _with_credentials(uri: str) -> str:
    """Return the URI with its password; refuse one that messages would mistake for a host name."""
    if HIDDEN in uri:
        given = os.environ.get(URI_VARIABLE, "")
        if HIDDEN in given or without_credentials(given) != uri:
            raise InputError(
                f"the password of {uri} is never stored; set {URI_VARIABLE} to the address with "
                "the password in it, and repeat the command"
            )
        uri = given
    credentials, at, _ = uri.partition("://")[2].rpartition("@")
    if at and (odd := _RESERVED.search(credentials.partition(":")[2] or credentials)):
        raise InputError(
            f"the password in {uri} must have {odd[0]!r} escaped as {quote(odd[0], safe='')}"
        )
    return uri


def scheme_of(uri: str) -> str:
    """Return the scheme of an address without its driver, in lower case."""
    prefix, separator, _ = uri.partition("://")
    return prefix.split("+")[0].lower() if separator else ""


def sqlite_path(uri: str) -> Path:
    return Path(unquote(uri.partition(":///")[2].partition("?")[0]))
