"""Commands of `gee` with more than a few lines."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout


@contextmanager
def run_networks(as_json: bool) -> Iterator[None]:
    """Inside, a user's own network prints to standard error if the answer is JSON, and cannot end the command in silence."""
    try:
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            yield
    except SystemExit as error:
        from gee_core.errors import InputError

        raise InputError(f"the code of the network ends the program ({error!r})", "leave sys.exit out of it") from error
