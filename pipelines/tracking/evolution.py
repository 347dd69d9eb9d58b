"""Tracks an evolution: its candidates, its generations, and who won."""

import math
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from statistics import fmean

from gee_core.config import Params
from gee_core.evolution.candidate import Candidate, Record
from gee_core.evolution.front import MEASURED_AS, crowding, hypervolumes, point
from gee_core.evolution.front import ranks as fronts
from gee_core.evolution.proxy_task import checkpoint_name
from gee_core.evolution.winner import final_fitness, fresh_fitness, winner
from gee_core.storage.json_object import json_digest
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.tracking.folder import Run, finite_metrics, texts
from pipelines.tracking.tags import BEST, WINNER
from pipelines.tracking.tracker import Tracker


def candidate_name(candidate: Candidate) -> str:
    """The name of a candidate's run in MLflow."""
    if candidate.rescored:
        return f"rescore-{candidate.rescored}-draw{candidate.draw}"
    return f"gen{candidate.generation}-cand{candidate.index}"


def track_search(track: Tracker, key: str, params: Params) -> None:
    """Begin to track the search with this ``key``, which all its settings are part of."""
    objectives = [MEASURED_AS.get(name, name) for name in params.evolve.objectives]
    track.search(key, [f"gene.{name}" for name in params.searched_genes()], objectives)


def track_candidate(track: Tracker, record: Record, genotype: GenotypeFile, ended: float) -> None:
    """Track a candidate as a run of its own, with its genotype.json; its scoring ``ended`` then, in seconds since 1970.

    A repeated search may score a candidate of the same name with other genes or other numbers, which is another run.
    """
    c, identity, status = record.candidate, record.identity(), record.score.status
    genes = c.genotype.as_dict()
    identity["wiring_seed"] = identity.pop("seed")  # `seed` is the run's
    params = texts(identity | genes | {"status": status})
    gene_metrics = {f"gene.{name}": value for name, value in genes.items()}  # parameters are texts, which do not compare
    price = record.price() if record.score.price else {}
    measured, lost = finite_metrics(record.metrics() | price | {"generation": c.generation} | gene_metrics)
    run = Run(
        key="",
        level="rescore" if c.rescored else "candidate",
        name=candidate_name(c),
        params=params,
        tags=lost | {"status": status},
        metrics=measured | {"seconds": record.seconds},
        texts={"genotype.json": genotype.model_dump_json(indent=2)},
        start=round(1000 * (ended - record.seconds)),
        ended=round(1000 * ended),
        status="FINISHED" if record.ok or status.startswith("outside: ") else "FAILED",
    )
    track.child(f"{run.name}-{json_digest({'params': params, 'metrics': measured})}", run)


def track_winner(track: Tracker, records: list[Record], best: Candidate, params: Params) -> None:
    """Mark ``best``, and the candidate that it repeats; log the `_ranks`, and the least `final_fitness` of each generation."""
    searched = [record.candidate for record in records if not record.candidate.rescored]
    names = {c.label: candidate_name(c) for c in searched}  # by what `rescored` calls them
    repeated = [names[best.rescored]] if best.rescored in names else []
    pairs = zip(records, final_fitness(records, params.evolve), strict=True)
    scored = [(r.candidate, F) for r, F in pairs if not math.isnan(F)]
    ranks = _ranks(scored, fresh_fitness(records, params.evolve), names)
    if params.evolve.several:
        ranks = _on_fronts(records, params, ranks)
        for generation, volume in enumerate(hypervolumes(records, params.evolve)):
            track.metrics({"hypervolume": volume}, step=generation)
    won = {*repeated, candidate_name(best)}
    marks = {name: (ranks.get(name, {}), dict[str, str]()) for name in {*ranks, *won}}
    track.mark(marks | {name: (marks[name][0] | {"winner": 1.0}, {WINNER: "true"}) for name in won})
    track.tags({BEST: candidate_name(best)})
    of_search = [(c.generation, F) for c, F in scored if not c.rescored]
    for generation in sorted({generation for generation, _ in of_search}):
        track.metrics({"final_fitness": min(F for g, F in of_search if g == generation)}, step=generation)


def _on_fronts(records: list[Record], params: Params, ranks: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """``ranks`` with the candidates of the search, and them alone, ranked by front, and how far apart each is on its own."""
    ranks = {name: {key: value for key, value in values.items() if key != "rank"} for name, values in ranks.items()}
    points = {candidate_name(r.candidate): point(r, params.evolve) for r in records if r.ok and not r.candidate.rescored}
    front_of = dict(zip(points, fronts(list(points.values())), strict=True))
    for front in set(front_of.values()):
        members = [name for name, rank in front_of.items() if rank == front]
        for name, apart in zip(members, crowding([points[name] for name in members]), strict=True):
            ranks[name] = ranks.get(name, {}) | {"rank": front, "crowding": apart}
    return ranks


def _ranks(
    scored: Sequence[tuple[Candidate, float]], draws: dict[str, list[float]], names: dict[str, str]
) -> dict[str, dict[str, float]]:
    """By name of the candidate: its `rank`, and the fitness that it is ranked by.

    Those that were scored again are ranked by the mean over their ``draws``, which the candidate that they repeat has too, and
    the others of ``scored``, none of which failed, by `final_fitness`. ``names``: those of `Candidate.rescored`.
    """
    fresh = {"": math.inf} | {label: fmean(values) for label, values in draws.items()}
    ordered = sorted([(fresh[c.rescored], F, c) for c, F in scored if c.rescored in fresh], key=lambda x: x[:2])
    ranks: dict[str, dict[str, float]] = {}
    counts = count(1), count(1)
    for mean, F, c in ordered:
        by = {"fresh_fitness": mean} if c.rescored else {"final_fitness": F}
        ranks[candidate_name(c)] = by | {"rank": next(counts[bool(c.rescored)])}
    for label, name in names.items():
        if label in fresh:
            ranks.setdefault(name, {})["fresh_fitness"] = fresh[label]
    return ranks


def track_generation(track: Tracker, records: list[Record], checkpoints: Path, params: Params) -> None:
    """Track CMA-ES's distribution and the generation's best candidate with its checkpoint; the other checkpoints are deleted.

    Candidates that are scored again are no generation, and none of their checkpoints is kept.
    """
    generation, best = records[0].candidate.generation, None
    if not records[0].candidate.rescored:
        by_loss = params.evolve.model_copy(update={"objectives": ["loss"]})
        best = winner(records, by_loss) if any(record.ok for record in records) else None
        measured = best.metrics() if best else {}
        measured.pop("image_passes", None)  # the stage's metric of that name is the cost of the whole search
        track.metrics({**records[0].state, **measured}, step=generation)
    for record in records:
        path = checkpoints / checkpoint_name(record.candidate)
        for file in (path, path.with_suffix(".json")):
            if record is not best:
                file.unlink(missing_ok=True)
            elif file.is_file():
                track.artifact(file, f"checkpoints/generation-{generation}")
