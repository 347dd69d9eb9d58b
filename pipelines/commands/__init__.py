"""Commands of `gee` with more than a few lines."""

import sys
from contextlib import AbstractContextManager, nullcontext, redirect_stdout


def json_alone(as_json: bool) -> AbstractContextManager:
    """Inside, prints of other code, such as a user's own network, go to standard error if the answer is JSON."""
    return redirect_stdout(sys.stderr) if as_json else nullcontext()
