"""Removes passwords and tokens from everything that is shown or stored."""

import functools
import os
import re
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import quote

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

URI = "MLFLOW_TRACKING_URI"
ADDRESSES = (URI, "PREFECT_API_URL", "GEE_NOTIFY")
"""Environment variables that may hold an address, of which password and query are secret; of a webhook all is."""

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

T = TypeVar("T")

SHORTEST = 4
"""Shorter values are hidden only in addresses: replacing them everywhere would garble numbers and words."""

_IN_ADDRESS = re.compile(
    r"(://)[^\s'\"]*@|([?&][\w.-]*(?:token|key|password|secret|signature)[\w.-]*=)[^&\s'\"]+", re.IGNORECASE
)


def redact(text: str) -> str:
    """``text`` without the secrets of the environment, and without users, passwords and tokens in addresses."""
    for secret in _secrets(*(os.environ.get(name, "") for name in (*ADDRESSES, *SECRETS))):
        text = text.replace(secret, "***")
    return _IN_ADDRESS.sub(lambda found: f"{found[1]}***@" if found[1] else f"{found[2]}***", text)


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
def _secrets(store: str, prefect: str, notify: str, *secrets: str) -> list[str]:
    """The secrets among the values of ADDRESSES and SECRETS, the longest first."""
    found = {*secrets, notify if "://" in notify else ""}
    for url in filter(None, map(_parsed, (store, prefect))):
        found |= {str(url.password or url.username or ""), *map(str, url.query.values())}
    forms = found | {quote(secret, safe="") for secret in found}
    return sorted((form for form in forms if len(form) >= SHORTEST), key=len, reverse=True)


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
