"""The rows of a search: each candidate is a run of MLflow and a score from which an interrupted search resumes.

And the error of a search in which all candidates failed.
"""

from collections.abc import Sequence
from pathlib import Path

from gee_core.config import Params
from gee_core.config.network import is_own
from gee_core.errors import DivergedError, InputError
from gee_core.evolution.candidate import Failure, Key, Record, Score
from gee_core.storage.json_object import json_digest
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.runtime.input_errors import MEMORY
from pipelines.runtime.run_files import Child, as_texts, read_rows


class CandidateRow(Child):
    """A scored candidate."""

    place: tuple[int, int]
    wiring: str
    score: Score


def candidate_row(record: Record, genotype: GenotypeFile, keys: dict[str, str], ended: float) -> CandidateRow:
    """A candidate as a run of its own, with its genotype.json; its scoring ``ended`` then, in seconds since 1970.

    ``keys`` are parameters that it has in common with the others.

    A repeated search may score a candidate of the same name with other genes or other numbers, which is another run.
    """
    c, identity, status = record.candidate, record.identity(), record.score.status
    genes = c.genotype.as_dict()
    identity["wiring_seed"] = identity.pop("seed")  # `seed` is the run's
    own = as_texts(identity | genes | {"status": status})
    gene_metrics = {f"gene.{name}": value for name, value in genes.items()}  # parameters are texts, which do not compare
    measured = record.metrics() | record.price() | {"generation": c.generation} | gene_metrics
    return CandidateRow(
        child=f"{c.name}-{json_digest({'params': own, 'metrics': measured})}",
        level="rescore" if c.rescored else "candidate",
        name=c.name,
        params=keys | own,
        tags={"status": status},
        metrics=measured | {"seconds": record.seconds},
        texts={"genotype.json": genotype.model_dump_json(indent=2)},
        start=round(1000 * (ended - record.seconds)),
        time=round(1000 * ended),
        status="FINISHED" if record.ok or status.startswith("outside: ") else "FAILED",
        place=c.place,
        wiring=c.wiring,
        score=record.score,
    )


def known_scores(folder: Path) -> dict[Key, tuple[Score, float]]:
    """The scores of earlier runs in ``folder``, with their seconds, by ``Candidate.key``.

    Damaged rows are ignored, and so are failures of the machine or the code: these are tried again.
    """
    known: dict[Key, tuple[Score, float]] = {}
    for row in read_rows(folder):
        if "child" not in row:
            continue
        candidate = CandidateRow.model_validate(row)
        if candidate.score.repeatable:
            known[*candidate.place, candidate.wiring] = candidate.score, candidate.metrics["seconds"]
    return known


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
        return "raise evolve.budget, lower network.n_genes, or search genes of structure"
    if score.failure is Failure.DIVERGED:
        return "lower evolve.proxy.lr or narrow evolve.bound"
    if score.failure in (Failure.MEMORY, Failure.GPU_MEMORY):
        return MEMORY
    network = f"network.name = {params.network.name}, or " if is_own(params.network.name) else ""
    return f"correct {network}what the error names"
