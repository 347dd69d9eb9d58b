"""What a Ctrl-C says. The package imports this module before all others, since importing torch takes seconds."""

import os
import shlex
import sys
from pathlib import Path
from types import TracebackType


def print_interruption(name: str) -> None:
    """Print the message of a Ctrl-C in the stage ``name``, or in a command of `gee`, which is named as it was typed.

    Of the processes that `torchrun` started the first says it.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    words = sys.argv[1:] if name == "gee" else []
    resumes = "run" in words[:4] if name == "gee" else "GEE_PARENT" not in os.environ  # after -C DIR and study; that says it
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
        print_interruption("gee" if command.stem == "cli" else command.stem)
        sys.exit(130)

    sys.excepthook = hook
