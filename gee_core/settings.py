"""How the core uses this machine: environment variables and memory. Results do not depend on it, but for rounding."""

import ctypes
import os
import sys
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gee_core.errors import InputError, in_short

PREFIX = "GEE_"

SAVE_SECONDS = 240.0
"""Least number of seconds between two saved states within an epoch: what a kill loses at most, and one step."""

MOST = 4096
"""Upper bound of numbers of processes, threads and seconds: a larger value is a typing error."""

Count = Annotated[int, Field(ge=1, le=MOST)]


class CoreSettings(BaseSettings):
    """The variables that `gee_core` itself reads; `pipelines` adds its own."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, use_attribute_docstrings=True, validate_default=False
    )

    compile: Literal["0", "1"] = "1"
    """`0`: neurons run without `torch.compile`; `gee energy` does so. Default: `1`."""

    deterministic: Literal["0", "1"] = "0"
    """`1`: a GPU adds in a fixed order, so that a seed gives the same bits again; slower. Default: `0`."""

    loader_workers: Annotated[int, Field(ge=0, le=MOST)] = min(8, os.cpu_count() or 1)
    """Processes that decode streamed images; `0`: none of their own. Default: one per CPU, at most 8."""

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
        name, value, message = problem["loc"][0], in_short(problem["input"], 40), problem["msg"]
        default = cls.model_fields[name].default
        known = "" if default is None else f", {default}"
        return f"{PREFIX}{name.upper()} = {value}: {message[0].lower()}{message[1:]}; unset it for the default{known}"


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks: every training step allocates the same tensors, and would pay for page faults."""
    M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, 2**30)
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
