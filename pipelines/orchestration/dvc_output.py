"""Reads what DVC and the stages print: what became of a stage, how far it is, why it failed, and which lines are only hints."""

import re

BUSY = "is busy, it is being blocked by"
"""DVC's message when another `dvc` uses the files of a stage, for which `--wait-for-lock` does not wait."""

_OUTCOMES = {
    re.compile(r"^Running stage '(.+)'"): "ran",
    re.compile(r"^Stage '(.+)' is cached - skipping run"): "cached",
    re.compile(r"^Stage '(.+)' didn't change, skipping"): "skipped",
}
_HINT = re.compile(
    r"^(To (track|enable|apply) .*:|\s*(git add|dvc config|dvc exp apply) .*|Use `dvc push` .*|\w+ lock file .*|\s*)$"
)
"""What tells a person at a terminal which git or dvc command comes next."""

_CAUSES = (re.compile(r"^[\w ]+: error: "), re.compile(r"^[\w.]+(Error|Exception)\b"), re.compile(r"^ERROR: "))
"""Lines that say why a command failed: a stage's, the end of a traceback, DVC's; the first kind that there is says most."""

_PROGRESS = re.compile(r"^(evolve|train|cells) \d+/\d+ (\d+) % ")
"""A line of `pipelines.runtime.progress.Steps`."""


def outcomes(output: str) -> dict[str, str]:
    """By stage: ``ran``, ``cached`` (result taken from the cache) or ``skipped`` (unchanged)."""
    found = [(m[1], what) for line in output.splitlines() for words, what in _OUTCOMES.items() if (m := words.match(line))]
    return dict(found)


def is_hint(line: str) -> bool:
    """Whether ``line`` is empty or tells which git or dvc command comes next."""
    return _HINT.match(line) is not None


def progress_in(line: str) -> tuple[str, float] | None:
    """The task, which is evolve, train or the cells of a study, and its per cent, if ``line`` says how far it is."""
    found = _PROGRESS.match(line)
    return (found[1], float(found[2])) if found else None


def failure(what: str, code: int, output: str) -> str:
    """The message for a command that failed: ``what`` did, its exit code, and the last line that says why."""
    for words in _CAUSES:
        if causes := [line for line in output.splitlines() if words.match(line)]:
            return f"{what} failed (exit code {code}): {causes[-1][:500]}"
    return f"{what} failed (exit code {code})"


def last_lines(output: str) -> str:
    """The last 15 lines that are no hints."""
    return "\n".join([line for line in output.splitlines() if not is_hint(line)][-15:])
