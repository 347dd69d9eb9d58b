"""What `gee_core` says about a problem, in the words of this project: its settings and its commands.

The core names its own arguments, in backquotes: "`opset` = 30: onnx knows none above 26: set `opset` to 18". `in_settings`
writes the key of params.yaml for such a name, by the table `SETTINGS`: "export.opset = 30: …". Where only a command of this
project helps, the caller of the core adds it by `remedy`.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gee_core.config import Params
from gee_core.config.known_networks import is_own
from gee_core.errors import DivergedError, InputError
from pipelines.runtime.input_errors import MEMORY

if TYPE_CHECKING:
    from gee_core.evolution.candidate import Score

TRACKED = "`dvc exp run --temp` and `--queue` see it once git or DVC tracks it: `git add` or `dvc add`"
"""Of a file that is not there."""

PREPARE = "`dvc repro prepare` makes it, `dvc pull` fetches it"
"""Of the prepared images."""

SETTINGS = {
    "device": "base.device",
    "dataset": "prepare.dataset",
    "path": "prepare.path",
    "image_size": "prepare.image_size",
    "max_train_images": "prepare.max_train_images",
    "max_test_images": "prepare.max_test_images",
    "stream": "prepare.stream",
    "test_share": "prepare.test_share",
    "holdout": "prepare.holdout",
    "network": "network.name",
    "n_genes": "network.n_genes",
    "width": "network.width",
    "T": "network.T",
    "v_reset": "network.v_reset",
    "bound": "evolve.bound",
    "proxy_images": "evolve.proxy_images",
    "sync_batch_norm": "train.sync_batch_norm",
    "opset": "export.opset",
}
"""By the name of an argument of `gee_core`, the key of params.yaml from which it comes."""


@contextmanager
def remedy(text: str) -> Iterator[None]:
    """Inside, an ``InputError`` without a remedy gets ``text`` as its remedy."""
    try:
        yield
    except InputError as error:
        if error.remedy is None:
            error.remedy = text
        raise


@contextmanager
def in_settings() -> Iterator[None]:
    """Inside, an ``InputError`` names keys of params.yaml in place of arguments of `gee_core`, by `SETTINGS`."""
    try:
        yield
    except InputError as error:
        error.problem = with_keys(error.problem)
        error.remedy = error.remedy and with_keys(error.remedy)
        raise


def with_keys(text: str) -> str:
    """``text`` with keys of params.yaml in place of arguments of `gee_core`."""
    return re.sub(r"`(\w+)`", lambda m: SETTINGS.get(m[1], m[0]), text)


def all_failed(scores: "Sequence[Score]", params: Params, of: str = "") -> InputError:
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


def all_hit_alike(scores: "Sequence[Score]", params: Params) -> bool:
    """Whether all failed by one failure of the machine, or of the network's code, which would hit all others too."""
    if any(score.repeatable for score in scores):
        return False
    remedies = {_of_failed(score, params) for score in scores}
    return len({score.status for score in scores}) == 1 or (len(remedies) == 1 and not remedies.pop().startswith("correct"))


def _of_failed(score: "Score", params: Params) -> str:
    """What to change where candidates fail as that of ``score`` did."""
    if score.diverged:
        return "lower evolve.lr or narrow evolve.bound"
    no_memory = ("MemoryError: ", "can't allocate memory", "its worker process died")
    if score.out_of_memory or any(reason in score.status for reason in no_memory):
        return MEMORY
    if "can't start new thread" in score.status:
        return "raise the limit of processes (`ulimit -u`), or lower GEE_WORKERS and GEE_THREADS"
    own = f"network.name = {params.network.name}, or " if is_own(params.network.name) else ""
    return f"correct {own}what the error names"
