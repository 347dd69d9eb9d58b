"""Errors that a user can fix, and those of a machine."""

import difflib
import operator
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import SupportsIndex, cast


class InputError(ValueError):
    """Bad input from outside: a value, a file or a folder.

    Args:
        problem: what is wrong and where, on one line.
        remedy: what to do about it; None where only the caller can say.
        key: the path to the argument that is to be changed, with which the message begins; see ``in_section``.
    """

    def __init__(self, problem: str, remedy: str | None = None, key: tuple[str, ...] = ()):
        super().__init__(problem, remedy, key)
        self.problem = problem
        self.remedy = remedy
        self.key = key

    def __str__(self) -> str:
        text = self.problem if self.remedy is None else f"{self.problem}: {self.remedy}"
        return f"{'.'.join(self.key)} {text}" if self.key else text


@contextmanager
def as_input_error(
    problem: str, kinds: type[Exception] | tuple[type[Exception], ...] = ValueError, remedy: str | None = None
) -> Iterator[None]:
    """Inside, an error of one of the ``kinds`` becomes an ``InputError`` that says ``problem`` and it; one that is, stays."""
    try:
        yield
    except InputError:
        raise
    except kinds as error:
        raise InputError(f"{problem} ({in_short(error)})", remedy) from None


@contextmanager
def in_section(*section: str) -> Iterator[None]:
    """Inside, the arguments that an ``InputError`` is about come from this section of params.yaml, and its message says so."""
    try:
        yield
    except InputError as error:
        error.key = (*section, *error.key) if error.key else ()
        raise


def as_int(value: object) -> int | None:
    """``value``, NumPy's too, as an int; None where it is no whole number."""
    try:
        return None if isinstance(value, bool) else operator.index(cast(SupportsIndex, value))
    except TypeError:
        return None


def whole_number(name: str, value: object, least: int = 1, most: int | None = None) -> int:
    """The argument ``name`` as an int; ValueError where it is no whole number, below ``least`` or above ``most``."""
    number = as_int(value)
    if number is None:
        raise ValueError(f"{name} must be >= {least}, and an int, got {in_short(repr(value), 60)}")
    if number < least:
        raise ValueError(f"{name} must be >= {least}, got {number}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be <= {most}, got {number!r:.40}")
    return number


def is_number(value: object, low: float, high: float) -> bool:
    """Whether ``value`` is a number from ``low`` to ``high``, NumPy's too."""
    return isinstance(value, Real) and not isinstance(value, bool) and low <= cast(float, value) <= high


def in_short(error: object, length: int = 200) -> str:
    """The text of ``error`` on one line without control characters, cut to ``length``; its type's name if it has none."""
    printable = "".join(c if c.isprintable() else " " for c in str(error))
    return " ".join(printable.split())[:length] or type(error).__name__


def printable(text: str) -> str:
    """``text`` with escapes for control characters and line breaks, so that no name of a file or class can forge a line."""
    kept = (c if c.isprintable() or c == "\N{NO-BREAK SPACE}" else c.encode("unicode_escape").decode() for c in text)
    return "".join(kept)


def raises(error: BaseException) -> str:
    """The end of a sentence about code that ended by ``error``: "raises TypeError: its message"."""
    return f"raises {type(error).__name__}: {in_short(error)}"


def place_in(folders: Iterable[Path], error: BaseException) -> tuple[Path, str] | None:
    """The innermost file of ``folders`` in the traceback of ``error``, and "line N" of it; None where there is none."""
    below = tuple(folder.absolute() for folder in folders)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if any(map(Path(frame.filename).is_relative_to, below)):
            return Path(frame.filename), f"line {frame.lineno}"
    return None


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The question whether ``prefix`` and the nearest of ``known`` names was meant; empty if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {prefix}{near[0]}?" if near else ""


class DivergedError(InputError):
    """The parameters are valid, but training with them produced values that are not finite."""


class ExportError(InputError):
    """A network cannot be expressed in the format of another runtime; the message says why."""


def full_gpu(message: str) -> bool:
    """Whether the message of an error of torch, the driver, Triton, cuBLAS or cuDNN says that a GPU's memory is full."""
    return re.search(r"CUDA.*out of memory|_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)", message) is not None


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` means that memory ran out, on a GPU or the host. torch's own errors count if torch is loaded."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and ("can't allocate memory" in str(error) or full_gpu(str(error)))


def lost_gpu(error: BaseException) -> bool:
    """Whether this process cannot use its GPU any more: after most of CUDA's errors every call returns the same error."""
    return isinstance(error, RuntimeError) and "CUDA error" in str(error) and not out_of_memory(error)
