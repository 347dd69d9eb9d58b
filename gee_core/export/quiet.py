"""Silence for loggers of other libraries that speak about themselves."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_warnings(logger: str) -> Iterator[None]:
    """The logger of this name, and those below it, log errors alone while the body runs."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
