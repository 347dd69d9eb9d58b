"""What all sections of params.yaml, and all models of files, have in common."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _printable(path: str) -> str:
    if not path.isprintable():
        raise ValueError("holds characters that cannot be printed: name another path")
    return path


Positive = Annotated[int, Field(ge=1, lt=2**31)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
SCALE, TAU, RESET = (1e-6, 1e6), (1.0, 1e6), (-1e6, 1e6)
"""Least and greatest value of thresholds and slopes, of τ, which is above its least, and of the membrane after a spike."""
Scale = Annotated[float, Field(ge=SCALE[0], le=SCALE[1])]
Tau = Annotated[float, Field(gt=TAU[0], le=TAU[1])]
Reset = Annotated[float, Field(ge=RESET[0], le=RESET[1])]
MOST_GENES = 10_000
"""The most genes of an encoding, everywhere."""
DataName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
PathName = Annotated[str, Field(min_length=1, max_length=4000), AfterValidator(_printable)]
Sizes = Annotated[list[Annotated[int, Field(ge=4, le=1024)]], Field(min_length=1, max_length=1000)]
StepSchedule = Annotated[list[Annotated[int, Field(ge=1, le=64)]], Field(min_length=1, max_length=1000)]


class StrictModel(BaseModel):
    """The content of a file: the fields alone, finite numbers, no type in place of another; it cannot be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Section(StrictModel):
    """A section of params.yaml."""
