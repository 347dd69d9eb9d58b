"""DVC as `gee run` calls it: without hints on git, and without an error for a stage that said itself that it was stopped."""

import logging
import sys

from dvc.cli import main


def _is_shown(record: logging.LogRecord) -> bool:
    error = record.exc_info and record.exc_info[1]
    stopped = isinstance(error, KeyboardInterrupt) or (error and str(error.__cause__).endswith("exited with 130"))
    return record.name != "dvc.repo.scm_context" and not stopped


if __name__ == "__main__":
    for handler in logging.getLogger("dvc").handlers:
        handler.addFilter(_is_shown)
    sys.exit(main())
