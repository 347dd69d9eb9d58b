"""Shows a command that runs DVC as Prefect tasks: a task per stage that DVC names, whose logs are the lines that it prints."""

import itertools
import logging
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast
from uuid import UUID

from prefect import artifacts, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

log = logging.getLogger(__name__)

_BEGINS = {
    "Running stage '(.+)'": "ran",
    "Stage '(.+)' is cached - skipping run": "cached",
    "Stage '(.+)' didn't change, skipping": "skipped",
}
"""How the line starts with which DVC names a stage, and the outcome of the stage unless it fails."""

_FAILED = "^(WARNING: failed to run: |ERROR: (failed to reproduce {!r}|ended by signal))"
"""The line that says that a stage failed. DVC's is a warning where DVC goes on with stages that do not need that stage."""

_CAUSES = (r"[\w ]+: error: ", r"[\w.]+(Error|Exception)\b", "WARNING: failed to run: ", "ERROR: ")
"""How lines start that say why a command failed: a stage's, the end of a traceback, DVC's. The first kind says most."""

_PROGRESS = r"(evolve|train|plain|cells) \d+/\d+ (\d+) % "
"""How a line of `pipelines.runtime.progress.Steps` starts."""


def follow_process(process: "subprocess.Popen[str]", outcomes: dict[str, str]) -> tuple[str, list[str]]:
    """Show what ``process`` prints, the stages of DVC as tasks, and write to ``outcomes`` what became of each as it ends.

    Returns:
        All that was printed; and a message for each stage that failed, with its last lines. Where the process failed otherwise,
        the message is that of the process.
    """
    stage, outputs, messages = "", list[str](), list[str]()

    def stage_of(line: str) -> str:
        """The stage that DVC named last, "" before the first."""
        nonlocal stage
        stage = next((match[1] for begin in _BEGINS if (match := re.match(begin, line))), stage)
        return stage

    for name, lines in itertools.groupby(lines_of(process), key=stage_of):
        if not name:
            outputs.append(show(lines))
            continue
        state = follow_stage(name, lines, return_state=True)
        outputs.append(str(state.result(raise_on_failure=False)))
        outcomes[name] = "ran" if state.name == "Completed" else str(state.name).lower()
        if state.is_failed():
            messages.append(outputs[-1])
    if process.wait() and not messages:
        messages.append(describe_failure("gee", "\n".join(outputs[-1:])))
    return "\n".join(outputs), messages


def lines_of(process: "subprocess.Popen[str]") -> Iterator[str]:
    """The lines that ``process`` prints, as it prints them, and a last line where a signal ended it."""
    assert process.stdout
    yield from map(str.rstrip, process.stdout)
    if process.wait() < 0:
        yield f"ERROR: ended by signal {-process.returncode}"


@task(task_run_name="{stage}", cache_policy=NO_CACHE, retries=0)
def follow_stage(stage: str, lines: Iterator[str]) -> State[str]:
    """Show the ``lines`` of a stage as they come. The state says what became of it, and has the lines."""
    output = show(lines)
    if re.search(_FAILED.format(stage), output, re.MULTILINE):
        return fail(describe_failure(f"stage {stage}", output))
    outcome = next(outcome for begin, outcome in _BEGINS.items() if re.match(begin, output))
    return Completed(data=output) if outcome == "ran" else Completed(name=outcome.capitalize(), data=output)


def show(lines: Iterable[str]) -> str:
    """Log ``lines``, and keep the progress artifacts of the run up to date; returns all lines."""
    logger, ids, shown = get_run_logger(), dict[str, UUID](), list[str]()
    for line in lines:
        shown.append(line)
        logger.info(line)
        if progress := re.match(_PROGRESS, line):
            name, percent = progress[1], float(progress[2])
            with harmless():
                if name in ids:
                    artifacts.update_progress_artifact(ids[name], percent, line)
                else:
                    ids[name] = cast(UUID, artifacts.create_progress_artifact(percent, f"gee-{name}", line))
    return "\n".join(shown)


@contextmanager
def harmless() -> Iterator[None]:
    """Log an error of the body, such as that of a server that does not answer, and go on."""
    try:
        yield
    except Exception as error:
        log.warning("an artifact of the flow run is missing: %s: %s", type(error).__name__, error)


def describe_failure(name: str, output: str) -> str:
    """That ``name`` failed, with the line of ``output`` that says why, and below it the last 15 lines."""
    lines = output.splitlines()
    causes = (line[:500] for kind in _CAUSES for line in reversed(lines) if re.match(kind, line))
    return "\n".join([": ".join([f"{name} failed", *itertools.islice(causes, 1)]), *lines[-15:]])


def fail(message: str) -> State[str]:
    """A failed state whose message is the first line of ``message``."""
    return Failed(message=message.partition("\n")[0], data=message)


logging.getLogger("prefect.task_runs").addFilter(  # Prefect repeats all of the state, on one line
    lambda record: "Task run failed with state" not in record.getMessage()
)
