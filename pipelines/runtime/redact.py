"""Removes passwords and tokens from everything that is shown or stored."""

import functools
import os
import re
from urllib.parse import parse_qsl, quote, unquote

URI = "MLFLOW_TRACKING_URI"
ADDRESSES = (URI, "PREFECT_API_URL", "GEE_DASK")
"""Environment variables that may hold an address, of which password and query are secret."""

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

_IN_ADDRESS = re.compile(
    r"(://|:/(?=[^\s'\"@]*:))[^\s'\"]*@|([?&][\w.-]*(?:token|key|password|secret|signature)[\w.-]*=)[^&\s'\"]+", re.IGNORECASE
)
"""A path of an address has one slash where the address has two."""
_USER = re.compile(r"://([^:/@]*)(?::(.*))?@")
"""User and password of an address, of which the password may have any sign."""


def redact(text: str) -> str:
    """``text`` without the secrets of the environment, and without users, passwords and tokens in addresses."""
    for secret in _secrets(*(os.environ.get(name, "") for name in (*ADDRESSES, *SECRETS))):
        text = text.replace(secret, "***")
    return _IN_ADDRESS.sub(lambda found: f"{found[1]}***@" if found[1] else f"{found[2]}***", text)


def redact_values(values: object) -> object:
    """``values`` (JSON) with every string redacted, keys included."""
    if isinstance(values, str):
        return redact(values)
    if isinstance(values, dict):
        return {redact(key): redact_values(value) for key, value in values.items()}
    return [redact_values(value) for value in values] if isinstance(values, list) else values


def bare(uri: str) -> str:
    """The address of a store without user, password, token and query."""
    return redact(_USER.sub("://", uri).partition("?")[0].rstrip("/"))


@functools.cache
def _secrets(store: str, prefect: str, dask: str, *secrets: str) -> list[str]:
    """The secrets among the values of ADDRESSES and SECRETS, the longest first."""
    found = {*secrets}
    for uri in (store, prefect, dask):
        password = (user[2] or user[1]) if (user := _USER.search(uri)) else ""
        query = parse_qsl(_USER.sub("", uri).partition("?")[2])
        found |= {password, unquote(password), *(value for _, value in query)}
    forms = found | {quote(secret, safe="") for secret in found}
    # Shorter values are hidden only in addresses: replacing them everywhere would garble numbers and words.
    return sorted((form for form in forms if len(form) > 3), key=len, reverse=True)
