"""Checks of the names and lists in a study file."""

from typing import Annotated

from pydantic import AfterValidator


def _one_line(name: str) -> str:
    if [name] != [line.strip() for line in name.splitlines()]:
        raise ValueError("must be one line that is not empty and neither begins nor ends with a blank: give it such a label")
    return name


Name = Annotated[str, AfterValidator(_one_line)]
"""A column of labels, or a label in one."""

NameOrEmpty = Annotated[str, AfterValidator(lambda name: name and _one_line(name))]
"""The same, or empty where a cell has no label."""


def without_repeats(values: list) -> list:
    """``values``, or ``ValueError`` if two of them are equal."""
    if len(set(values)) < len(values):
        raise ValueError("a value is there twice: leave it out once")
    return values
