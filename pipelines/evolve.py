"""Stage evolve: searches the distributions of the initial wiring by CMA-ES → models/evolve/genotype.json."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import pandas as pd

from gee_core.config import Params
from gee_core.data.prepared import load_meta
from gee_core.errors import DivergedError
from gee_core.evolution import loop
from gee_core.evolution.candidate import Candidate, Record, Score
from gee_core.evolution.candidate_states import forget_rungs
from gee_core.evolution.proxy import ProxyTask, checkpoint_name
from gee_core.evolution.search_vector import SearchSpace
from gee_core.evolution.winner import final_fitness, fresh_fitness, winner
from gee_core.genome.genotype import Genotype
from gee_core.seeding import derive_seed
from gee_core.storage.atomic_files import write_atomically, write_json
from pipelines.engines.candidates import Scorer, Workers
from pipelines.inputs.genotype_file import GenotypeFile, StartOfSearch
from pipelines.inputs.prepared_images import REMEDY
from pipelines.inputs.remedies import remedy
from pipelines.inputs.start_genotype import analytic_start, load_start, start_files, start_sha256
from pipelines.project.paths import GENOTYPE, PREPARED, REPORTS, SCRATCH
from pipelines.reporting.evolution_figures import evolve_figures
from pipelines.runtime import journal
from pipelines.runtime.progress import Jobs
from pipelines.runtime.resume_folder import delete_finished_runs, delete_folder, finish_run, open_resume_folder
from pipelines.runtime.settings import Settings
from pipelines.stage import Stage, stage
from pipelines.tracking.tracker import Tracker

OUT = REPORTS / "evolve"
CHECKPOINTS = "checkpoints"
"""Subfolder of the resume folder with the candidates' networks and unfinished training runs."""


class Evolved(NamedTuple):
    """The result of an evolution."""

    records: list[Record]
    """By generation and index, those scored again last; none for a plain network."""
    genotype: GenotypeFile
    metrics: dict
    """The content of reports/evolve/metrics.json."""


def run(
    params: Params,
    prepared: Path,
    scratch: Path,
    on_record: Callable[[Record], None] = lambda record: None,
    on_generation: Callable[[list[Record]], None] = lambda records: None,
    open_scorer: Callable[[ProxyTask], Scorer] | None = None,
) -> Evolved:
    """Evolve on the images in ``prepared`` and choose the winner; a plain network has nothing to evolve.

    An interrupted run is resumed from its files in ``scratch``. ``open_scorer`` makes the object that scores candidates, by
    default on the engine that the environment selects.

    Raises:
        DivergedError: every candidate failed.
    """
    if params.network.n_genes is None:
        return Evolved([], genotype_file(params, None), {"n_candidates": 0})
    task = ProxyTask(prepared, params.base, params.network, params.evolve, scratch / CHECKPOINTS, Settings.read().save_seconds)
    log = scratch / "records.jsonl"

    def keep(candidate: Candidate, score: Score, seconds: float) -> None:
        journal.append(log, {"place": candidate.place} | asdict(score) | {"seconds": seconds})

    def end_generation(records: list[Record]) -> None:
        on_generation(records)
        forget_rungs(scratch / CHECKPOINTS, records[0].candidate.generation)

    with (open_scorer or Workers)(task) as scorer:
        space, known = search_space(params), read_known(log)
        found = loop.evolve(params.evolve, space, params.base.seed, scorer.score_all, known, on_record, end_generation, keep)
    try:
        best = winner(found, params.evolve)
    except ValueError as error:
        raise DivergedError(f"evolve: {error}", "lower evolve.lr or narrow evolve.bound, then `dvc repro evolve`") from None
    return Evolved(found, genotype_file(params, best), metrics(found, best, params))


def resume_folder(params: Params, prepared: Path, root: Path = SCRATCH) -> Path:
    """The folder below ``root`` from which an interrupted evolution is resumed."""
    inputs = [prepared / "meta.json", *start_files(params)]
    return open_resume_folder("evolve", [params.base, params.network, params.evolve], inputs, root)


def read_known(log: Path) -> dict[tuple[int, ...], tuple[Score, float]]:
    """Scores and seconds of an interrupted run, by ``Candidate.place``; damaged lines are ignored."""
    known = {}
    for values in journal.read(log, repair=True):
        place, seconds = tuple(values.pop("place")), values.pop("seconds")
        known[place] = Score(**values), seconds
    return known


def start_genotype(params: Params) -> Genotype:
    """The genotype at which the search starts, by `evolve.start`.

    Raises:
        InputError: the file that it names is unusable, or `unit` cannot reach the analytic σ's.
    """
    analytic = analytic_start(params)
    found = load_start(params, len(analytic.sigma_X))
    if params.evolve.start == "unit":
        return replace(analytic, sigma_O=1.0, sigma_X=(1.0,) * len(analytic.sigma_X))
    return found or analytic


def search_space(params: Params) -> SearchSpace:
    """The genes that evolve searches, around its start."""
    return SearchSpace(params.searched_genes(), start_genotype(params), params.evolve.bound)


def n_candidates(params: Params) -> int:
    """How many candidates the evolution of ``params`` has, at most; those that are scored again count as well."""
    return loop.n_candidates(params.evolve, search_space(params))


def genotype_file(params: Params, record: Record | None) -> GenotypeFile:
    """The genotype.json of a candidate; ``record=None`` for a plain network, which has no genes."""
    common = {"network": params.network.name, "n_genes": params.network.n_genes}
    common |= {"variant": params.evolve.variant, "form": params.evolve.genotype}
    if record is None:
        return GenotypeFile(**common, sigma_O=None, sigma_X=None, seed=derive_seed(params.base.seed, "plain") % 2**31)
    c, start = record.candidate, params.evolve.start_file
    return GenotypeFile(
        **common,
        sigma_O=c.genotype.sigma_O,
        sigma_X=c.genotype.sigma_X,
        shape=c.genotype.shape,
        seed=c.seed,
        generation=c.generation,
        index=c.index,
        fitness=record.fitness if record.ok else None,
        start=start and StartOfSearch(path=start, sha256=start_sha256(params)),
    )


def table(records: list[Record], params: Params) -> pd.DataFrame:
    """One row per candidate, by generation and index, without times, so that equal seeds give equal files."""
    if not records:
        return pd.DataFrame(columns=["generation", "index", "rescored", "seed", "status", "winner", "fitness"])
    best, genes, rows = winner(records, params.evolve), params.searched_genes(), []
    for r, final in zip(records, final_fitness(records, params.evolve), strict=True):
        measured = candidate_metrics(r)
        first = {"winner": r is best, "fitness": measured.pop("fitness"), "final_fitness": final}
        genotype = r.candidate.genotype.as_dict()
        rows.append(candidate_params(r) | first | measured | genotype | search_state(r, genes))
    return pd.DataFrame(rows)


def candidate_params(record: Record) -> dict:
    """What identifies a candidate, and its status."""
    c = record.candidate
    values = {"generation": c.generation, "index": c.index, "rescored": c.rescored, "seed": c.seed}
    return values | {"status": record.score.status}


def candidate_metrics(record: Record) -> dict[str, float]:
    """The measurements of a candidate."""
    s = record.score
    return {
        "fitness": record.fitness,
        "L_ce": s.L_ce,
        "TSE": s.TSE,
        "R_T": s.R_T,
        "var_o": s.var_o,
        "R_S": s.R_S,
        "lambda": record.decay,
        "proxy_accuracy": s.proxy_accuracy,
        "epochs": record.epochs,
        "image_passes": s.image_passes,
    }


def search_state(record: Record, genes: Sequence[str]) -> dict[str, float]:
    """CMA-ES's distribution at the record's generation, by column; NaN if CMA-ES did not draw it."""
    names = ["step_size", "axis_ratio", *(f"mean_{gene}" for gene in genes), *(f"std_{gene}" for gene in genes)]
    if (s := record.state) is None:
        return dict.fromkeys(names, math.nan)
    return dict(zip(names, [s.step_size, s.axis_ratio, *s.means, *s.stds], strict=True))


def metrics(records: list[Record], best: Record, params: Params) -> dict:
    """The content of reports/evolve/metrics.json."""
    search = [record for record in records if not record.candidate.rescored]
    draws = fresh_fitness(records, params.evolve).get(best.candidate.rescored, [best.fitness])
    spread = {"best_fitness_sd": stdev(draws)} if len(draws) > 1 else {}
    return {
        "best_fitness": fmean(draws),
        **spread,
        "best_L_ce": best.score.L_ce,
        "best_proxy_accuracy": best.score.proxy_accuracy,
        "n_candidates": len(search),
        "n_rescored": len(records) - len(search),
        "n_failed": sum(not record.ok for record in search),
        "n_eliminated": sum(record.ok and record.epochs < best.epochs for record in search),
        "image_passes": sum(record.score.image_passes for record in records),
        "best_generation": best.candidate.generation,
        "best_index": best.candidate.index,
    }


def track_candidate(track: Tracker, record: Record, params: Params) -> None:
    """Track a candidate as a run of its own, with its genotype.json, at which another search can start."""
    c, names = record.candidate, candidate_params(record)
    names["wiring_seed"] = names.pop("seed")  # `seed` is the run's
    track.candidate(
        names | c.genotype.as_dict(),
        candidate_metrics(record) | {"seconds": record.seconds},
        f"rescore-{c.rescored}-draw{c.draw}" if c.rescored else f"gen{c.generation}-cand{c.index}",
        record.score.status,
        {"genotype.json": genotype_file(params, record).model_dump_json(indent=2)},
    )


def track_generation(track: Tracker, records: list[Record], checkpoints: Path, params: Params) -> None:
    """Track CMA-ES's distribution and the generation's best candidate with its checkpoint; the other checkpoints are deleted.

    Of candidates that are scored again, which are no generation, none is kept: the winner is trained from its wiring.
    """
    generation, best = records[0].candidate.generation, None
    if not records[0].candidate.rescored:
        best = winner(records, params.evolve) if any(record.ok for record in records) else None
        of_search = search_state(records[0], params.searched_genes()) if records[0].state else {}
        track.metrics(of_search | (candidate_metrics(best) if best else {}), step=generation)
    for record in records:
        path = checkpoints / checkpoint_name(record.candidate)
        for file in (path, path.with_suffix(".json")):
            if record is not best:
                file.unlink(missing_ok=True)
            elif file.is_file():
                track.artifact(file, f"checkpoints/generation-{generation}")


def main() -> None:
    with stage("evolve") as s:
        s.track.params(s.params.evolve.model_dump())
        if s.params.network.n_genes is None:
            write_outputs(run(s.params, PREPARED, SCRATCH), s.params)
        else:
            _evolve(s)


def _evolve(s: Stage) -> None:
    params = s.params
    with remedy(REMEDY):
        load_meta(PREPARED)  # refuses missing images
        total = n_candidates(params)  # refuses an unusable `evolve.start`
    scratch = resume_folder(params, PREPARED)
    delete_finished_runs(scratch)
    with s.progress("evolve", total) as steps, remedy(REMEDY):
        jobs, best = Jobs(steps), math.inf

        def on_record(record: Record) -> None:
            nonlocal best
            track_candidate(s.track, record, params)
            c, best = record.candidate, min(best, math.inf if record.candidate.rescored else record.fitness)
            jobs.at((c.generation, c.index), 1.0, f"generation {c.generation}, best F {best:.3f}")

        def on_generation(records: list[Record]) -> None:
            track_generation(s.track, records, scratch / CHECKPOINTS, params)

        open_scorer = partial(Workers, on_part=lambda c, part: jobs.at((c.generation, c.index), part))
        found = run(params, PREPARED, scratch, on_record, on_generation, open_scorer)
    candidates = write_outputs(found, params)
    s.track.metrics(found.metrics)
    for name, figure in evolve_figures(candidates, params).items():
        write_atomically(scratch / f"{name}.svg", figure)
        s.track.artifact(scratch / f"{name}.svg", "plots")
    s.track.artifact(OUT / "candidates.csv")
    s.track.artifact(GENOTYPE)
    delete_folder(scratch / CHECKPOINTS)
    finish_run(scratch, OUT / "metrics.json")


def write_outputs(found: Evolved, params: Params) -> pd.DataFrame:
    """Write genotype.json, and the table and metrics under reports/evolve; returns the table."""
    candidates = table(found.records, params)
    write_json(GENOTYPE, found.genotype.model_dump())
    write_atomically(OUT / "candidates.csv", candidates.to_csv(index=False))
    write_json(OUT / "metrics.json", found.metrics)
    return candidates


if __name__ == "__main__":
    main()
