"""Bad input, and what a machine refuses, end a command with one message per problem instead of a traceback.

The core names its own arguments, in backquotes: "`opset` = 30: onnx knows none above 26: set `opset` to 18". The message
has the key of params.yaml for such a name, by the table `SETTINGS`: "export.opset = 30: …".
"""

import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gee_core.errors import InputError, in_short
from gee_core.memory import out_of_memory
from gee_core.storage.atomic_files import REMEDIES as WRITING
from pipelines.interruption import interrupted

_FILES = "raise the limit of open files (`ulimit -n`), or lower GEE_WORKERS and GEE_LOADER_WORKERS"
REMEDIES = WRITING | {
    errno.ENAMETOOLONG: "the path is too long: shorten it",
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
}
del REMEDIES[errno.ENOENT]  # elsewhere than in writing a bug: what the user names is looked for first
MEMORY = "lower the batch_size of this stage, GEE_WORKERS or GEE_LOADER_WORKERS, or take smaller images or a smaller network"


SETTINGS = {
    "device": "base.device",
    "dataset": "prepare.dataset",
    "path": "prepare.path",
    "image_size": "prepare.image_size",
    "max_train_images": "prepare.max_train_images",
    "max_test_images": "prepare.max_test_images",
    "stream": "prepare.stream",
    "test_share": "prepare.test_share",
    "holdout": "prepare.holdout",
    "events.frames": "prepare.events.frames",
    "events.sensor": "prepare.events.sensor",
    "network": "network.name",
    "n_genes": "network.n_genes",
    "width": "network.width",
    "T": "network.T",
    "v_reset": "network.v_reset",
    "bound": "evolve.bound",
    "choose": "evolve.choose",
    "proxy_images": "evolve.proxy_images",
    "whiten": "train.whiten",
    "sync_batch_norm": "train.sync_batch_norm",
    "opset": "export.opset",
}
"""By the name of an argument of `gee_core`, the key of params.yaml from which it comes."""


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
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # stderr escapes it already


def known_message(error: BaseException) -> str | None:
    """The message, a line per problem, for bad input, or for no space, no permission or no memory; None for a bug."""
    if isinstance(error, InputError):
        return with_keys(str(error))
    if isinstance(error, OSError) and error.errno in REMEDIES:
        where = error.filename2 or error.filename
        named = f"{os.fsdecode(where)}: " if isinstance(where, str | bytes) else ""
        return f"{named}{os.strerror(error.errno).lower()}: {REMEDIES[error.errno]}"
    return f"out of memory ({in_short(error, 120)}): {MEMORY}" if out_of_memory(error) else None


def with_keys(text: str) -> str:
    """``text`` with keys of params.yaml in place of arguments of `gee_core`."""
    return re.sub(r"`([\w.]+)`", lambda m: SETTINGS.get(m[1], m[0]), text)


def print_errors(name: str, message: str) -> None:
    """Print every line of ``message`` as an error of the command ``name``."""
    for line in message.splitlines():
        print(f"{name}: error: {line}", file=sys.stderr)
