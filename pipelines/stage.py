"""What every stage does around its work: reads params, tracks, shows progress, and turns bad input into one message.

    with stage("train") as s:
        run(s.params.train, …)

Exit codes: 0 done; 1 a bug (with traceback); 2 bad input, or an error of the machine that the user can fix (one message per
problem, nothing valid lost); 130 Ctrl-C; 143 SIGTERM.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Self

from gee_core.config import Params
from gee_core.settings import keep_freed_memory
from pipelines.engines.ranks import this_rank
from pipelines.inputs.genotype_file import load_genotype
from pipelines.inputs.own_network import build_own_network
from pipelines.project.params import load_params
from pipelines.runtime.input_errors import known_message, print_anything, report_input_errors
from pipelines.runtime.process_tree import die_with_parent, exit_on_sigterm
from pipelines.runtime.progress import Steps, progress
from pipelines.runtime.run_files import End
from pipelines.runtime.run_folder import RunFolder
from pipelines.runtime.settings import Settings
from pipelines.tracking.tracker import Execution, TrackedStage, open_stage


@dataclass(frozen=True)
class Stage:
    """A running stage."""

    params: Params
    """All of params.yaml, checked."""
    run: RunFolder
    """Where its parameters, metrics and artifacts go."""
    above: RunFolder
    """The run of the execution that it belongs to."""
    follows: bool = False
    """Whether this is one of several processes and not the first, which alone tracks, shows progress and writes."""

    def evolved(self) -> Self:
        """The same stage with the parameters of the network that train makes of the winner: its genes replace settings."""
        return replace(self, params=self.params.with_genes(load_genotype(self.params).genes))

    def progress(self, description: str, total: int | None) -> AbstractContextManager[Steps]:
        """`progress` of the stage's task."""
        return nullcontext(Steps(description, total)) if self.follows else progress(description, total)


@contextmanager
def stage(name: str) -> Iterator[Stage]:
    """Run the body as the stage ``name``."""
    follows = this_rank().number > 0
    if not follows:  # the others have nothing to clean up
        exit_on_sigterm()
    die_with_parent()
    keep_freed_memory()
    print_anything()
    with report_input_errors(name):
        Settings.read()  # a bad value is refused before the stage starts
        params = load_params()
        if name != "prepare":  # the first stage that runs refuses an own network before any work
            build_own_network(params)
        tracked = open_stage(name, params, writes=not follows)
        with closing(tracked):
            yield Stage(params, tracked.run, tracked.execution.run, follows)


@contextmanager
def closing(tracked: TrackedStage | Execution) -> Iterator[None]:
    """Close ``tracked`` after the body, with the status in which the body ended and the message of its error."""
    status: End = "FAILED"
    message = ""
    try:
        yield
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    except Exception as error:
        message = known_message(error) or f"{type(error).__name__}: {error}"
        raise
    finally:
        tracked.close(status, message)
