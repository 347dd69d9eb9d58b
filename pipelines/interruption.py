"""How a process ends. The package imports this module before all others, since importing torch takes seconds."""

import atexit
import os
import shlex
import sys
import threading
from pathlib import Path
from types import TracebackType

done = threading.Event()
"""Set once this process has done its work: it then ends without Python's teardown."""


@atexit.register  # before all others, so that it is called after them
def _end_at_once() -> None:
    if done.is_set():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def interrupted(name: str) -> None:
    """Print the message of a Ctrl-C in the stage ``name``, or in a command of `gee`, which is named as it was typed."""
    words = sys.argv[1:] if name == "gee" else []
    resumes = name != "gee" or "run" in words[:4]  # after -C DIR and study
    continues = "; the same command continues where it stopped" if resumes else ""
    if resumes and {"--force", "-f"} & set(words):
        continues = "; the same command begins anew, without --force it runs what is not up to date"
    print(f"{shlex.join([name, *words])}: interrupted{continues}", file=sys.stderr)


def end_imports_in_one_line() -> None:
    """Let a Ctrl-C that comes before a stage or `gee` handles it end with the same line and the same code, 130."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        command = Path(sys.argv[0])
        if not issubclass(kind, KeyboardInterrupt) or (command.parent != Path(__file__).parent and command.name != "gee"):
            return before(kind, error, trace)
        if "TORCHELASTIC_RUN_ID" not in os.environ:  # in one of several processes the command that started them says it
            interrupted("gee" if command.stem == "cli" else command.stem)
        sys.exit(130)

    sys.excepthook = hook
