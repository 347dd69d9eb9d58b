"""Remedies that name commands of this project, added to problems that `gee_core` states."""

from collections.abc import Iterator
from contextlib import contextmanager

from gee_core.errors import InputError

TRACKED = "`dvc exp run --temp` and `--queue` see it once git or DVC tracks it: `git add` or `dvc add`"
"""Of a file that is not there."""

PREPARE = "`dvc repro prepare` makes it, `dvc pull` fetches it"
"""Of the prepared images."""


@contextmanager
def remedy(text: str) -> Iterator[None]:
    """Inside, an ``InputError`` without a remedy gets ``text`` as its remedy."""
    try:
        yield
    except InputError as error:
        if error.remedy is None:
            error.remedy = text
        raise
