"""Bad input, and what a machine refuses, end a command with one message per problem instead of a traceback."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gee_core.errors import InputError, in_short, out_of_memory, printable
from gee_core.storage.atomic_files import REMEDIES as WRITING
from pipelines.interruption import print_interruption
from pipelines.runtime.redact import redact

_FILES = "raise the limit of open files (`ulimit -n`), or lower GEE_WORKERS and GEE_LOADER_WORKERS"
REMEDIES = WRITING | {
    errno.ENAMETOOLONG: "the path is too long: shorten it",
    errno.ELOOP: "a link leads back to itself: remove it",
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
}
del REMEDIES[errno.ENOENT]  # elsewhere than in writing a bug: what the user names is looked for first
MEMORY = "lower the batch_size of this stage, GEE_WORKERS or GEE_LOADER_WORKERS, or take smaller images or a smaller network"

TRACKED = "`dvc exp run --temp` and `--queue` see it once git or DVC tracks it: `git add` or `dvc add`"
"""Of a file that is not there."""

PREPARE = "`dvc repro prepare` makes it, `dvc pull` fetches it"
"""Of the prepared images."""


@contextmanager
def report_input_errors(name: str) -> Iterator[None]:
    """Print an error of the body that the user can fix, without a traceback, and exit with 2; Ctrl-C exits with 130."""
    try:
        yield
    except (InputError, OSError, MemoryError, RuntimeError) as error:
        message = known_message(error)
        if message is None:
            raise
        print_errors(name, message)
        sys.exit(2)
    except KeyboardInterrupt:
        print_interruption(name)
        sys.exit(130)


@contextmanager
def remedy(text: str) -> Iterator[None]:
    """Inside, an ``InputError`` without a remedy gets ``text`` as its remedy."""
    try:
        yield
    except InputError as error:
        if error.remedy is None:
            error.remedy = text
        raise


@contextmanager
def reading(path: Path, remedy: str = "run `dvc repro`") -> Iterator[None]:
    """Turn errors of the body, which reads another stage's file, into an ``InputError`` with a ``remedy`` for damage."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: not found", remedy) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({' '.join(str(error).split())})", f"delete it and {remedy}") from None


def print_anything() -> None:
    """Let stdout print question marks for what its encoding lacks, such as ASCII, in place of ending with an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # stderr escapes it already


def known_message(error: BaseException) -> str | None:
    """The message, a line per problem, for bad input, or for no space, no permission or no memory; None for a bug."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.errno in REMEDIES:
        where = error.filename2 or error.filename
        named = f"{os.fsdecode(where)}: " if isinstance(where, str | bytes) else ""
        return f"{named}{os.strerror(error.errno).lower()}: {REMEDIES[error.errno]}"
    return f"out of memory ({in_short(error, 120)}): {MEMORY}" if out_of_memory(error) else None


def print_errors(name: str, message: str) -> None:
    """Print every line of ``message``, without secrets and control characters, as an error of ``name``."""
    for line in message.split("\n"):
        print(f"{name}: error: {redact(printable(line))}", file=sys.stderr)
