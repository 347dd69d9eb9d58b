"""Removes passwords and tokens from everything that is shown or stored."""

import functools
import os
import re
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

URI = "MLFLOW_TRACKING_URI"
ADDRESSES = (URI, "PREFECT_API_URL")
"""Environment variables that hold an address, of which user, password and the values of the query are secret."""

SECRETS = (
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
    "PREFECT_API_KEY",
    "PREFECT_API_AUTH_STRING",
)
"""Environment variables whose whole values are secret."""

NOTIFY = "GEE_NOTIFY"
"""Environment variable whose value is secret where it is the address of a webhook, and else a command."""

T = TypeVar("T")

MASK = "***"
SHORTEST = 4
"""Shorter values are hidden only in addresses: replacing them everywhere would garble numbers and words."""

_USER = re.compile(r"://[^/\s'\"]*@")
_NAMED = re.compile(r"([?&][\w.-]*(?:token|key|password|secret|signature)[\w.-]*=)[^&\s'\"]+", re.IGNORECASE)


def redact(text: str) -> str:
    """``text`` without the secrets of the environment, and without users, passwords and tokens in addresses."""
    names = (*SECRETS, NOTIFY, *ADDRESSES)
    for secret in _secrets(tuple(os.environ.get(name, "") for name in names)):
        text = text.replace(secret, MASK)
    return _NAMED.sub(rf"\1{MASK}", _USER.sub(f"://{MASK}@", text))


def redacted(values: T) -> T:
    """``values`` (JSON) with every string redacted, keys included."""
    found: object = values
    if isinstance(values, str):
        found = redact(values)
    elif isinstance(values, dict):
        found = {redact(key): redacted(value) for key, value in values.items()}
    elif isinstance(values, list):
        found = [redacted(value) for value in values]
    return cast(T, found)


def bare(uri: str) -> str:
    """The address of a store without user, password, token and query."""
    if (url := _parsed(uri)) is None:
        return redact(uri).partition("?")[0].rstrip("/")
    plain = type(url).create(url.drivername, host=url.host, port=url.port, database=url.database)
    return redact(plain.render_as_string().rstrip("/"))


@functools.cache
def _secrets(values: tuple[str, ...]) -> list[str]:
    """The secrets among the ``values`` of SECRETS, NOTIFY and ADDRESSES, the longest first."""
    *secrets, notify, _, _ = values
    found = {*secrets, notify if "://" in notify else ""}
    for uri in values[-len(ADDRESSES) :]:
        found |= _secrets_of(uri)
    forms = {form for secret in found for form in (secret, unquote(secret), quote(secret, safe=""))}
    return sorted((form for form in forms if len(form) >= SHORTEST), key=len, reverse=True)


def _secrets_of(uri: str) -> set[str]:
    """Password, or a token in its place, and the values of the query; of a malformed address all that may hold them."""
    url, user = _parsed(uri), uri.partition("://")[2].rpartition("@")[0]
    if url is None:
        return {user, user.partition(":")[2]}
    queried = {value for values in url.normalized_query.values() for value in values}
    return queried | {str(url.password or url.username or "")}


def _parsed(uri: str) -> "URL | None":
    """The parts of an address with a user or a query; None of a malformed or of another one."""
    if "@" not in uri and "?" not in uri:
        return None
    from sqlalchemy.engine import make_url  # a fifth of a second
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        return None
    return None if "@" in (url.host or "") else url
