"""Silence for loggers of other libraries that speak about themselves."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_logs(logger: str, below: int = logging.ERROR) -> Iterator[None]:
    """The logger of this name, and those under it, log nothing below the level ``below`` while the body runs."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(below)
    try:
        yield
    finally:
        log.setLevel(level)
