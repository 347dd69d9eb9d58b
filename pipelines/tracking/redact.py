"""Removes passwords and tokens from everything that is shown or stored."""

import os
import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

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

MASK = "***"
SHORTEST = 4
"""Shorter values are hidden only in addresses: replacing them everywhere would garble numbers and words."""

_USER = re.compile(r"://[^/\s'\"]*@")
_NAMED = re.compile(r"([?&][\w.-]*(?:token|key|password|secret|signature)[\w.-]*=)[^&\s'\"]+", re.IGNORECASE)


def redact(text: str) -> str:
    """``text`` without the secrets of the environment, and without users, passwords and tokens in addresses."""
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return _NAMED.sub(rf"\1{MASK}", _USER.sub(f"://{MASK}@", text))


def redacted(values: Any) -> Any:
    """``values`` (JSON) with every string redacted, keys included."""
    if isinstance(values, str):
        return redact(values)
    if isinstance(values, dict):
        return {redact(key): redacted(value) for key, value in values.items()}
    return [redacted(value) for value in values] if isinstance(values, list | tuple) else values


def bare(uri: str) -> str:
    """The address of a store without user, password, token and query."""
    parts = urlsplit(uri)
    if not parts.netloc:
        return redact(uri.partition("?")[0])
    return redact(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", "")))


def _secrets() -> set[str]:
    found = {os.environ.get(name, "") for name in SECRETS}
    for uri in (os.environ.get(name, "") for name in ADDRESSES):
        user = uri.partition("://")[2].partition("?")[0].rpartition("@")[0]  # urlsplit would stop at a slash in the password
        found |= {user, user.partition(":")[2], *(value for _, value in parse_qsl(urlsplit(uri).query))}
    if "://" in (notify := os.environ.get(NOTIFY, "")):
        found.add(notify)
    return {form for secret in found for form in (secret, unquote(secret)) if len(form) >= SHORTEST}
