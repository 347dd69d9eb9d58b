"""What helps with a problem that `gee_core` states, in the commands of this project."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gee_core.config import Params
from gee_core.config.known_networks import is_own
from gee_core.errors import DivergedError, InputError
from gee_core.evolution.candidate import Failure, Score
from pipelines.runtime.input_errors import MEMORY

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


def all_failed(scores: Sequence[Score], params: Params, of: str = "") -> InputError:
    """The error of an evolution without a candidate that could be measured, with the remedy for the most frequent reason.

    It is a DivergedError, which a study takes for a result, where another attempt would end the same.
    """
    reasons = [_of_failed(score, params) for score in scores]
    most = max(dict.fromkeys(reasons), key=reasons.count)
    place = reasons.index(most)
    shown = f"{'most of them' if place else 'the first'}: {scores[place].status}"
    problem = f"evolve: all {len(scores)} candidates{of} failed; {shown}"
    if all(score.repeatable for score in scores):
        return DivergedError(problem, f"{most}, then `dvc repro evolve`")
    return InputError(problem, f"{most}, then run it again")


def _of_failed(score: Score, params: Params) -> str:
    """What to change where candidates fail as that of ``score`` did."""
    if score.failure is Failure.BUDGET:
        return "raise evolve.budget, or search genes of structure"
    if score.failure is Failure.DIVERGED:
        return "lower evolve.proxy.lr or narrow evolve.bound"
    if score.failure in (Failure.MEMORY, Failure.GPU_MEMORY):
        return MEMORY
    network = f"network.name = {params.network.name}, or " if is_own(params.network.name) else ""
    return f"correct {network}what the error names"
