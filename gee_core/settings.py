"""Environment variables, which set how a machine is used and change no result."""

import os

from gee_core.errors import InputError

MOST = 4096
"""Of processes or threads: more is a slip of the pen."""


def from_environment(name: str, default: int | None, least: int = 1) -> int | None:
    """The number in the variable ``name``; ``default`` where it is unset or empty.

    Raises:
        InputError: it is no whole number from ``least`` to ``MOST``.
    """
    value = os.environ.get(name, "").strip()
    if not value:
        return default
    whole = value.isascii() and value.isdecimal()
    if not (whole and len(value) <= 9 and least <= int(value) <= MOST):
        shown = value if len(value) <= 40 else f"{value[:39]}…"
        known = "" if default is None else f", {default}"
        wanted = f"from {least} to {MOST}" if whole and value.strip("0") else f">= {least}"
        raise InputError(f"{name} = {shown}: must be a whole number {wanted}; unset it for the default{known}")
    return int(value)


def one_of(name: str, choices: tuple[str, ...]) -> None:
    """See to it that the variable ``name``, where it is set, says one of ``choices``.

    Raises:
        InputError: it says something else.
    """
    value = os.environ.get(name, "").strip().lower()
    if value and value not in choices:
        raise InputError(f"{name} = {value[:40]}: must be one of {', '.join(choices)}; unset it for the default")
