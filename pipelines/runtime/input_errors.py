"""Bad input ends a command with one message per problem instead of a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gee_core.errors import InputError
from pipelines.interruption import interrupted
from pipelines.runtime.os_errors import user_message


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
        interrupted(name)
        sys.exit(130)


def print_anything() -> None:
    """Let stdout print question marks for what its encoding lacks, such as ASCII, in place of ending with an error."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # stderr escapes it already


def known_message(error: BaseException) -> str | None:
    """The message, a line per problem, for an error that the user can fix; None for a bug."""
    return str(error) if isinstance(error, InputError) else user_message(error)


def print_errors(name: str, message: str) -> None:
    """Print every line of ``message`` as an error of the command ``name``."""
    for line in message.splitlines():
        print(f"{name}: error: {line}", file=sys.stderr)
