"""Environment variables that say how the core uses this machine. Results do not depend on them, but for rounding."""

import os
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gee_core.errors import InputError

PREFIX = "GEE_"

SAVE_SECONDS = 240.0
"""Least number of seconds between two saved states within an epoch: what a kill loses at most, and one step."""

MOST = 4096
"""Upper bound of numbers of processes, threads and seconds: a larger value is a typing error."""


def whole_setting(least: int) -> BeforeValidator:
    """Validator: a decimal number from ``least`` to ``MOST``."""

    def check(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) <= 9 and least <= int(text) <= MOST):
            raise ValueError(f"must be a whole number from {least} to {MOST}")
        return int(text)

    return BeforeValidator(check)


def choice(*values: str) -> BeforeValidator:
    """Validator: one of ``values``, in upper or lower case."""

    def check(text: str) -> str:
        if text.lower() not in values:
            raise ValueError(f"must be one of {', '.join(values)}")
        return text.lower()

    return BeforeValidator(check)


class CoreSettings(BaseSettings):
    """The variables that `gee_core` itself reads; `pipelines` adds its own."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, use_attribute_docstrings=True, validate_default=False
    )

    compile: Annotated[str, choice("0", "1")] = "1"
    """`0`: neurons run without `torch.compile`, with the same results up to rounding. Default: `1`."""

    deterministic: Annotated[str, choice("0", "1")] = "0"
    """`1`: a GPU adds in a fixed order, so that a seed gives the same bits again; slower, or not possible. Default: `0`."""

    loader_workers: Annotated[int, whole_setting(0)] = min(8, os.cpu_count() or 1)
    """Processes that decode streamed images; `0`: the one that asks for them. Default: one per CPU, at most 8."""

    def rounding(self) -> dict[str, str]:
        """The variables that the last bits of a result depend on, by their names in the environment."""
        return {f"{PREFIX}COMPILE": self.compile, f"{PREFIX}DETERMINISTIC": self.deterministic}

    @model_validator(mode="before")
    @classmethod
    def _blank_is_unset(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {name: text.strip() for name, text in values.items() if text.strip()}

    @classmethod
    def read(cls) -> Self:
        """The settings as the environment has them now; an InputError has one line per variable that cannot be read."""
        try:
            return cls()
        except ValidationError as error:
            raise InputError("\n".join(map(cls._explain, error.errors()))) from None

    @classmethod
    def _explain(cls, problem: Any) -> str:
        name, value = problem["loc"][0], problem["input"]
        shown = value if len(value) <= 40 else f"{value[:39]}…"
        default = cls.model_fields[name].default
        known = "" if default is None else f", {default}"
        return f"{PREFIX}{name.upper()} = {shown}: {problem['ctx']['error']}; unset it for the default{known}"
