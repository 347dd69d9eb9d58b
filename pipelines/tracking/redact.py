"""Keeps passwords and tokens out of whatever is shown or stored."""

import os
import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

URI = "MLFLOW_TRACKING_URI"
SECRETS = (
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
)
"""Environment variables that are secret as a whole."""

MASK = "***"
SHORTEST = 4
"""Shorter values are hidden inside addresses alone: replaced everywhere, they would take numbers and words apart."""

_USER = re.compile(r"://[^/\s'\"]*@")
_NAMED = re.compile(r"([?&][\w.-]*(?:token|key|password|secret|signature)[\w.-]*=)[^&\s'\"]+", re.IGNORECASE)


def redact(text: str) -> str:
    """``text`` without what the environment's secrets are, and without users, passwords and tokens in any address."""
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return _NAMED.sub(rf"\1{MASK}", _USER.sub(f"://{MASK}@", text))


def redacted(values: Any) -> Any:
    """``values`` (JSON) with every string in them, keys too, redacted."""
    if isinstance(values, str):
        return redact(values)
    if isinstance(values, dict):
        return {redact(key): redacted(value) for key, value in values.items()}
    return [redacted(value) for value in values] if isinstance(values, list | tuple) else values


def bare(uri: str) -> str:
    """The address alone: two that differ in nothing but user, password, token or query are one store."""
    parts = urlsplit(uri)
    if not parts.netloc:
        return redact(uri.partition("?")[0])
    return redact(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", "")))


def _secrets() -> set[str]:
    uri = os.environ.get(URI, "")
    user = uri.partition("://")[2].partition("?")[0].rpartition("@")[0]  # not urlsplit's: a slash would end it
    found = {user, user.partition(":")[2], *(value for _, value in parse_qsl(urlsplit(uri).query))}
    found |= {os.environ.get(name, "") for name in SECRETS}
    return {form for secret in found for form in (secret, unquote(secret)) if len(form) >= SHORTEST}
