"""JSON that a command answers with, on a standard output of its own."""

import sys
from contextlib import AbstractContextManager, nullcontext, redirect_stdout


def json_alone(as_json: bool) -> AbstractContextManager:
    """Inside, what other code prints, as a network of the user's own may, goes to standard error if the answer is JSON."""
    return redirect_stdout(sys.stderr) if as_json else nullcontext()
