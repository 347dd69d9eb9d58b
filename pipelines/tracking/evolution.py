"""What MLflow shows of an evolution next to its candidates: its generations, and who has won."""

import math
from collections import defaultdict
from collections.abc import Iterator
from statistics import fmean

from gee_core.config import Params
from gee_core.evolution.candidate import Candidate, Record
from gee_core.evolution.front import MEASURED_AS, front, hypervolumes, mean_points, ranks, repeats
from gee_core.evolution.winner import final_fitness, fresh_fitness, winner
from pipelines.runtime.run_files import Mark
from pipelines.runtime.run_folder import RunFolder
from pipelines.tracking.experiment_page import search_views
from pipelines.tracking.tags import BEST, WINNER


def views_of(params: Params) -> dict[str, str]:
    """The views of the candidates of a search."""
    objectives = [MEASURED_AS.get(name, name) for name in params.evolve.objectives]
    return search_views([f"gene.{name}" for name in params.searched_genes()], objectives)


def marks_of(records: list[Record], best: Candidate, params: Params) -> dict[str, Mark]:
    """By name of the candidates: ranks, means over draws, and who has won, ``best`` and the candidate that it repeats.

    Those that were scored again are the first, by the mean over the draws of one candidate, which that one has too. The others
    follow by `final_fitness`. With several objectives all are ranked by front.
    """
    means = {label: fmean(values) for label, values in fresh_fitness(records, params.evolve).items()}
    _, fresh, _ = repeats(records)
    points = mean_points(fresh, params.evolve)
    scored = [(c, F) for c, F in _scored(records, params) if not c.rescored or c.rescored in means]
    marks = defaultdict[str, dict[str, float]](dict)
    for c, F in scored:
        if c.in_full or not c.rescored:
            marks[c.name]["final_fitness"] = F
        if (label := c.origin) in means and not c.in_full:
            marks[c.name]["fresh_fitness"] = means[label]
            for cost, value in zip(params.evolve.objectives[1:], points[label][1:], strict=True):
                marks[c.name][f"fresh_{MEASURED_AS.get(cost, cost)}"] = value
        if c is best or (c.label == best.rescored and not c.rescored):
            marks[c.name]["winner"] = 1.0
    if params.evolve.several:
        for name, values in _ranks(records, params).items():
            marks[name] |= values
    else:
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


def final_curves(records: list[Record], params: Params) -> Iterator[tuple[int, dict[str, float]]]:
    """By generation: the least `final_fitness`, and of several objectives the hypervolume."""
    of_search = [(c, F) for c, F in _scored(records, params) if not c.rescored]
    volumes = dict(enumerate(hypervolumes(records, params.evolve))) if params.evolve.several else {}
    for generation in sorted({c.generation for c, _ in of_search} | volumes.keys()):
        values = {"hypervolume": volumes[generation]} if generation in volumes else {}
        if found := [F for c, F in of_search if c.generation == generation]:
            values["generation_least_fitness"] = min(found)
        yield generation, values


def _ranks(records: list[Record], params: Params) -> dict[str, dict[str, float]]:
    """By name of the search's candidates: `rank`, the number of the front.

    1 is the front of front.json alone, also where fresh draws made it.
    """
    of_search = next(repeats(records))
    points = mean_points(of_search, params.evolve)
    first = {m.record.candidate.origin for m in front(records, params.evolve)}
    numbers = zip(points, ranks([*points.values()]), strict=True)
    return {of_search[label][0].candidate.name: {"rank": 1 if label in first else max(number, 2)} for label, number in numbers}


def note_generation(run: RunFolder, params: Params, records: list[Record]) -> None:
    """Note CMA-ES's distribution and the generation's best candidate. Candidates that are scored again are no generation."""
    if records[0].candidate.rescored:
        return
    by_loss = params.evolve.model_copy(update={"objectives": ["loss"]})
    best = winner(records, by_loss) if any(record.ok for record in records) else None
    measured = {f"generation_best/{name}": value for name, value in best.metrics().items()} if best else {}
    run.point(records[0].candidate.generation, records[0].state | measured)


def note_ranks(run: RunFolder, records: list[Record], labels: list[str], best: Candidate, params: Params) -> None:
    """Note who has won and the rank of each candidate, under the ``labels`` of their rows, and curves by generation."""
    for generation, values in final_curves(records, params):
        run.point(generation, values)
    marks = marks_of(records, best, params)
    run.record.marks = {label: marks[record.candidate.name] for record, label in zip(records, labels, strict=True)}
    run.note(tags={BEST: best.name})
