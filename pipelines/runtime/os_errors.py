"""Messages for errors of the machine that a user can fix: no space, no permission, no memory."""

import errno
import os

from gee_core.errors import in_short
from gee_core.memory import out_of_memory
from gee_core.storage import atomic_files as files

_FILES = "raise the limit of open files (`ulimit -n`), or lower GEE_WORKERS and GEE_LOADER_WORKERS"

_WRITING = {number: remedy for number, remedy in files.REMEDIES.items() if number != errno.ENOENT}
"""Elsewhere than in writing a file, a file that is not there is a bug: what the user names is looked for first."""

REMEDIES = _WRITING | {
    errno.ENAMETOOLONG: "the path is too long: shorten it",
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
}
MEMORY = "lower the batch_size of this stage, GEE_WORKERS or GEE_LOADER_WORKERS, or take smaller images or a smaller network"


def user_message(error: BaseException) -> str | None:
    """The message for an error that the user can fix, on one line with its remedy; None for a bug in this project."""
    if isinstance(error, OSError) and error.errno in REMEDIES:
        where = error.filename2 or error.filename
        named = f"{os.fsdecode(where)}: " if isinstance(where, str | bytes) else ""
        return f"{named}{os.strerror(error.errno).lower()}: {REMEDIES[error.errno]}"
    if out_of_memory(error):
        return f"out of memory ({in_short(error, 120)}): {MEMORY}"
    return None
