"""What MLflow shows of an evolution next to its candidates: its generations, and who has won."""

import math
from collections import defaultdict
from statistics import fmean

from gee_core.config import Params
from gee_core.evolution.candidate import Candidate, Record
from gee_core.evolution.winner import final_fitness, fresh_fitness, winner
from pipelines.runtime.run_files import Mark
from pipelines.runtime.run_folder import RunFolder
from pipelines.tracking.experiment_page import search_views
from pipelines.tracking.tags import BEST, WINNER


def views_of(params: Params) -> dict[str, str]:
    """The views of the candidates of a search. A width that the budget decides is shown as one that is drawn."""
    solved = ["width"] if params.evolve.solves_width else []
    return search_views([f"gene.{name}" for name in [*solved, *params.searched_genes()]], params.evolve.counts)


def marks_of(records: list[Record], best: Candidate, params: Params) -> dict[str, Mark]:
    """By name of the candidates: ranks, means over draws, and who has won, ``best`` and the candidate that it repeats.

    Those that were scored again are the first, by the mean over the draws of one candidate, which that one has too. The others
    follow by `final_fitness`.
    """
    fresh, marks = fresh_fitness(records, params.evolve), defaultdict[str, dict[str, float]](dict)
    means = {label: fmean(values) for label, values in fresh.items()}
    scored = [(c, F) for c, F in _scored(records, params) if not c.rescored or c.rescored in means]
    for c, F in scored:
        if not c.rescored:
            marks[c.name]["final_fitness"] = F
        if c.origin in means:
            marks[c.name]["fresh_fitness"] = means[c.origin]
        if c is best or (c.label == best.rescored and not c.rescored):
            marks[c.name]["winner"] = 1.0
    for is_draw in (False, True):
        group = [(c, F) for c, F in scored if bool(c.rescored) == is_draw]
        ordered = sorted(group, key=lambda pair: (means.get(pair[0].origin, math.inf), pair[1]))
        for rank, (c, _) in enumerate(ordered, 1):
            marks[c.name]["rank"] = rank
    names = [record.candidate.name for record in records]
    return {name: Mark(metrics=marks[name], tags={WINNER: "true"} if "winner" in marks[name] else {}) for name in names}


def _scored(records: list[Record], params: Params) -> list[tuple[Candidate, float]]:
    pairs = zip((record.candidate for record in records), final_fitness(records, params.evolve), strict=True)
    return [(c, F) for c, F in pairs if not math.isnan(F)]


def final_curves(records: list[Record], params: Params) -> dict[int, float]:
    """The least `final_fitness` of each generation."""
    least: dict[int, float] = {}
    for c, F in _scored(records, params):
        if not c.rescored:
            least[c.generation] = min(F, least.get(c.generation, math.inf))
    return least


def note_generation(run: RunFolder, params: Params, records: list[Record]) -> None:
    """Note CMA-ES's distribution and the generation's best candidate. Candidates that are scored again are no generation."""
    if records[0].candidate.rescored:
        return
    best = winner(records, params.evolve) if any(record.ok for record in records) else None
    measured = {f"generation_best/{name}": value for name, value in best.metrics().items()} if best else {}
    run.point(records[0].candidate.generation, records[0].state | measured)


def note_ranks(run: RunFolder, records: list[Record], labels: list[str], best: Candidate, params: Params) -> None:
    """Note who has won and the rank of each candidate, under the ``labels`` of their rows, and curves by generation."""
    for generation, F in final_curves(records, params).items():
        run.point(generation, {"generation_least_fitness": F})
    marks = marks_of(records, best, params)
    run.record.marks = {label: marks[record.candidate.name] for record, label in zip(records, labels, strict=True)}
    run.note(tags={BEST: best.name})
