"""Tracks an evolution: its candidates, its generations, and who won."""

import math
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from gee_core.config import Params
from gee_core.evolution.candidate import Candidate, Record
from gee_core.evolution.front import MEASURED_AS, crowding, front, hypervolumes, point
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
        time=round(1000 * ended),
        status="FINISHED" if record.ok or status.startswith("outside: ") else "FAILED",
    )
    track.child(f"{run.name}-{json_digest({'params': params, 'metrics': measured})}", run)


def track_winner(track: Tracker, records: list[Record], best: Candidate, params: Params) -> None:
    """Mark ``best``, and the candidate that it repeats; log ranks, and the least `final_fitness` of each generation.

    Those that were scored again are the first, by the mean over the draws of one candidate, which that one has too. The others
    follow by `final_fitness`. With several objectives all are ranked by front, with how far apart they are on it.
    """
    means = {label: fmean(values) for label, values in fresh_fitness(records, params.evolve).items()}
    pairs = zip((record.candidate for record in records), final_fitness(records, params.evolve), strict=True)
    scored = [(c, F) for c, F in pairs if not math.isnan(F) and (not c.rescored or c.rescored in means)]
    of_search = [(c, F) for c, F in scored if not c.rescored]
    marks = defaultdict[str, dict[str, float]](dict)
    for c, F in scored:
        if not c.rescored:
            marks[candidate_name(c)]["final_fitness"] = F
        if (label := c.rescored or c.label) in means:
            marks[candidate_name(c)]["fresh_fitness"] = means[label]
        if c is best or (c.label == best.rescored and not c.rescored):
            marks[candidate_name(c)]["winner"] = 1.0
    if params.evolve.several:
        for name, values in _on_fronts(records, params).items():
            marks[name] |= values
        for generation, volume in enumerate(hypervolumes(records, params.evolve)):
            track.metrics({"hypervolume": volume}, step=generation)
    else:
        draws = [(c, F) for c, F in scored if c.rescored]
        for group in (of_search, draws):
            ordered = sorted(group, key=lambda pair: (means.get(pair[0].rescored or pair[0].label, math.inf), pair[1]))
            for rank, (c, _) in enumerate(ordered, 1):
                marks[candidate_name(c)]["rank"] = rank
    track.mark({name: (metrics, {WINNER: "true"} if "winner" in metrics else {}) for name, metrics in marks.items()})
    track.tags({BEST: candidate_name(best)})
    for generation in sorted({c.generation for c, _ in of_search}):
        track.metrics({"generation_least_fitness": min(F for c, F in of_search if c.generation == generation)}, step=generation)


def _on_fronts(records: list[Record], params: Params) -> dict[str, dict[str, float]]:
    """By name of the search's candidates: `rank`, the number of the front, and how far apart each is on its own.

    1 is the front of front.json alone, also where fresh draws made it.
    """
    points = {candidate_name(r.candidate): point(r, params.evolve) for r in records if r.ok and not r.candidate.rescored}
    labels = {r.candidate.rescored or r.candidate.label for r, *_ in front(records, params.evolve)}
    first = {candidate_name(r.candidate) for r in records if r.candidate.label in labels}
    number_of, placed = dict(zip(points, fronts(list(points.values())), strict=True)), dict[str, dict[str, float]]()
    for number in set(number_of.values()):
        names = [name for name, n in number_of.items() if n == number]
        apart = crowding([points[name] for name in names])
        ranks = [1 if name in first else max(number, 2) for name in names]
        placed |= {name: {"rank": rank, "crowding": x} for name, rank, x in zip(names, ranks, apart, strict=True)}
    return placed


def track_generation(track: Tracker, records: list[Record], checkpoints: Path, params: Params) -> None:
    """Track CMA-ES's distribution and the generation's best candidate with its checkpoint; the other checkpoints are deleted.

    Candidates that are scored again are no generation, and none of their checkpoints is kept.
    """
    generation, best = records[0].candidate.generation, None
    if not records[0].candidate.rescored:
        by_loss = params.evolve.model_copy(update={"objectives": ["loss"]})
        best = winner(records, by_loss) if any(record.ok for record in records) else None
        measured = {f"generation_best/{name}": value for name, value in best.metrics().items()} if best else {}
        track.metrics({**records[0].state, **measured}, step=generation)
    for record in records:
        path = checkpoints / checkpoint_name(record.candidate)
        for file in (path, path.with_suffix(".json")):
            if record is not best:
                file.unlink(missing_ok=True)
            elif file.is_file():
                track.artifact(file, f"checkpoints/generation-{generation}")
