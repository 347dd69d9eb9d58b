"""Stage evolve: searches the distributions of the initial wiring by CMA-ES → models/evolve/genotype.json."""

import itertools
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from gee_core.config import Params
from gee_core.data.meta import load_meta
from gee_core.evolution import loop
from gee_core.evolution.candidate import START, ProxyTask, Record
from gee_core.evolution.search_vector import SearchSpace
from gee_core.evolution.winner import final_fitness, fresh_fitness, winner
from gee_core.genome.genotype import configured_genotype
from gee_core.seeding import derive_seed
from gee_core.storage.atomic_files import forget_states, sha256, write_atomically, write_json
from gee_core.storage.csv_rows import csv_text
from gee_core.storage.json_object import json_digest
from pipelines.engines.candidates import Workers
from pipelines.inputs.candidate_rows import CandidateRow, all_failed, candidate_row, known_scores
from pipelines.inputs.genotype_file import Controls, GenotypeFile
from pipelines.inputs.measured import Searched
from pipelines.inputs.own_network import network_files
from pipelines.inputs.search import narrowed_plain, search_space, start_files
from pipelines.project.paths import CONTROLS, GENOTYPE, PREPARED, REPORTS
from pipelines.runtime.input_errors import PREPARE, remedy
from pipelines.runtime.progress import console
from pipelines.runtime.run_files import WORK, append_row, as_texts, delete_folder
from pipelines.runtime.run_folder import run_key, runs_root
from pipelines.runtime.settings import Settings
from pipelines.stage import Stage, stage
from pipelines.tracking.evolution import note_generation, note_ranks, views_of
from pipelines.tracking.pipeline_run import describe_datasets, filter_keys

OUT = REPORTS / "evolve"
EXTENDABLE = {"n_generations": 1, "rescore": None}
"""The values of `evolve` on which no score depends, as they stand in the key of the stage's folder: a run with more
generations, or with others scored again, goes on with the scores of the last one."""
COLUMNS = ("generation", "index", "rescored", "seed", "status", "winner", "fitness")
"""The columns of candidates.csv where there are no candidates."""


class Evolved(NamedTuple):
    """The result of an evolution."""

    records: list[Record]
    """By generation and index, fresh draws last."""
    best: Record | None
    """The winner among them, if there are any."""
    genotype: GenotypeFile
    metrics: dict[str, float]
    """The content of reports/evolve/metrics.json."""
    controls: Controls | None = None
    """Of a search under a budget."""


def run(
    params: Params,
    prepared: Path,
    folder: Path,
    on_record: Callable[[Record, bool], None] = lambda record, known: None,
    on_generation: Callable[[list[Record]], None] = lambda records: None,
    open_scorer: Callable[[ProxyTask], Workers] | None = None,
) -> Evolved:
    """Evolve on the images in ``prepared`` and choose the winner, if there are candidates to score.

    Each candidate is a row of the run ``folder``, from which an interrupted run is resumed. ``open_scorer`` makes the object
    that scores candidates. ``on_record`` gets each record, and whether its score was known from an earlier run.

    Raises:
        DivergedError: every candidate failed, by its numbers.
        InputError: every candidate failed, one or more by the machine or the network's code, or all of the first generation.
    """
    if not params.scores_candidates:
        return Evolved([], None, genotype_file(params, None), {"n_candidates": 0})
    pj = params.evaluate.e_mac, params.evaluate.e_ac
    kept = folder / WORK, Settings.read().save_seconds
    task = ProxyTask(prepared, params.base, params.network, params.evolve, *kept, pj)
    known, space = known_scores(folder), search_space(params, prepared)

    def keep(record: Record) -> None:
        c = record.candidate
        if c.key not in known:
            append_row(folder, row_of(record, params, time.time()).model_dump())
        on_record(record, c.key in known)

    def end_generation(records: list[Record]) -> None:
        on_generation(records)
        for record in records:
            forget_states(folder / WORK, f"{record.candidate.name}-*-step")
        scores = [record.score for record in records]
        if records[0].candidate.generation == 0 and not any(score.repeatable for score in scores):
            raise all_failed(scores, params, " of the first generation")

    with (open_scorer or Workers)(task) as scorer:
        records = loop.evolve(params.evolve, space, params.base.seed, scorer.score_all, known, keep, end_generation)
    if not any(record.ok for record in records):
        raise all_failed([record.score for record in records], params)
    best = winner(records, params.evolve)
    limits = (
        {f"limit_{name}": most for name, most in space.allowance.limits.items() if name != "own_ratio"}
        if space.allowance
        else {}
    )
    found = metrics(records, best, params) | limits
    return Evolved(records, best, genotype_file(params, best), found, controls(records, space, params, prepared))


def row_of(record: Record, params: Params, ended: float = 0.0) -> CandidateRow:
    """The row of a candidate."""
    return candidate_row(record, genotype_file(params, record), as_texts(filter_keys(params)), ended)


def search_key(params: Params, prepared: Path) -> str:
    """The key of a search: everything that its records depend on."""
    inputs = [prepared / "meta.json", *start_files(params), *network_files(params.network.name)]
    sections, extra = [params.base, params.network, params.evolve], f"{params.evaluate.e_mac} {params.evaluate.e_ac}"
    return run_key("evolve", sections, inputs, extra)


def scores_folder(params: Params) -> Path:
    """The run folder of the stage: that of all runs whose scores are the same, whatever their `EXTENDABLE` values."""
    evolve = params.evolve.model_copy(update=EXTENDABLE)
    return runs_root() / f"evolve-{search_key(params.model_copy(update={'evolve': evolve}), PREPARED)}"


def n_candidates(params: Params) -> int:
    """The number of candidates that the evolution of ``params`` scores at most, fresh draws included."""
    return loop.n_candidates(params.evolve, search_space(params))


def genotype_file(params: Params, record: Record | None) -> GenotypeFile:
    """The genotype.json of a candidate. ``record=None`` where none is scored: it has the configured genes."""
    network, evolve, start = params.network, params.evolve, params.evolve.start_file
    about = network.model_dump(include={"width", "n_genes"}) | {"network": network.name, "variant": evolve.variant}
    if record is None:
        genes = {} if network.n_genes is None else configured_genotype(network).as_dict()
        return GenotypeFile(**about, genes=genes, seed=derive_seed(params.base.seed, "plain") % 2**31)
    c = record.candidate
    return GenotypeFile(
        **about,
        searched=params.searched_genes() if evolve.searches else (),
        genes=c.genotype.as_dict(),
        seed=c.seed,
        generation=c.generation,
        index=c.index,
        fitness=None if math.isnan(record.fitness) else record.fitness,
        start={"path": start, "sha256": sha256(Path(start))} if start else None,
    )


def controls(records: list[Record], space: SearchSpace, params: Params, prepared: Path) -> Controls | None:
    """What the winner is compared with. None where the search has no budget."""
    if space.allowance is None:
        return None
    narrowed, plain = next((r for r in records if r.candidate.rescored == START), records[0]), None
    if params.evolve.solves_width and params.network.n_genes is not None:
        width = narrowed_plain(params, space, prepared, records[0].energy_factor)
        about = params.network.model_dump(include={"width"}) | {"network": params.network.name, "n_genes": None}
        plain = GenotypeFile(**about, genes={"width": width}, seed=narrowed.candidate.seed)
    file = genotype_file(params, narrowed)
    return Controls(start=file.model_copy(update={"genes": space.start.as_dict()}), narrowed=file, narrowed_plain=plain)


def table(records: list[Record], best: Record | None, params: Params) -> list[dict[str, object]]:
    """One row per candidate, without times, so that equal seeds give equal files. None is ``best`` during a search."""
    rows: list[dict[str, object]] = []
    for r, final in zip(records, final_fitness(records, params.evolve), strict=True):
        first = {"winner": r is best, "fitness": r.fitness, "final_fitness": final}
        rows.append(r.identity() | first | r.metrics() | r.price() | r.candidate.genotype.as_dict() | r.state)
    return rows


def metrics(records: list[Record], best: Record, params: Params) -> dict[str, float]:
    """The content of reports/evolve/metrics.json."""
    cfg, search = params.evolve, [record for record in records if not record.candidate.rescored]
    finals, fresh = final_fitness(records, cfg), fresh_fitness(records, cfg)
    draws = fresh.get(best.candidate.rescored, [finals[records.index(best)]])
    scored = [r for r in records if r.candidate.rescored == best.candidate.rescored] if best.candidate.rescored else [best]
    firsts = [(F, r.candidate) for F, r in zip(finals, search, strict=False) if F == F and not r.candidate.generation]
    drawn = min(((F, c.label) for F, c in firsts if c.index), default=(0.0, ""))[1]  # at random, moved by no selection
    values: dict[str, float | None] = {
        "best_fitness": fmean(draws),
        "best_fitness_sd": stdev(draws) if len(draws) > 1 else None,
        "start_fitness": fmean(fresh[START]) if cfg.searches and START in fresh else None,
        "random_fitness": fmean(fresh[drawn]) if drawn in fresh else None,
        "best_L_ce": fmean(r.score.L_ce for r in scored),
        "best_proxy_accuracy": fmean(r.score.proxy_accuracy for r in scored),
        "fresh_draws": len(draws) if best.candidate.rescored in fresh else None,
        "n_candidates": len(search),
        "n_rescored": len(records) - len(search),
        "n_failed": sum(not record.ok and not record.score.excess for record in search),
        "n_outside": sum(record.score.excess > 0 for record in search) if cfg.counts else None,
        "image_passes": sum(record.score.image_passes for record in records),
        "best_generation": best.candidate.generation,
        "best_index": best.candidate.index,
    }
    return {name: value for name, value in values.items() if value is not None}


def main() -> None:
    with stage("evolve") as s:
        if not s.params.scores_candidates:
            if s.params.train.init_from is not None:
                console.print(f"evolve: nothing to search, training starts at {s.params.train.init_from}", soft_wrap=True)
            s.run.note(s.params.evolve.model_dump())
            write_outputs(run(s.params, PREPARED, Path()), s.params)
        else:
            _evolve(s)


def _evolve(s: Stage) -> None:
    params = s.params
    with remedy(PREPARE):
        meta = load_meta(PREPARED)  # refuses missing images
        params.check_sizes(meta.image_size)
        total = n_candidates(params)  # refuses an unusable `evolve.start`
    values = params.evolve.model_dump(include=set(EXTENDABLE))
    folder = scores_folder(params)
    with s.run.at_work_in(folder, f"{folder.name}-{json_digest(values)}"):
        s.run.record.views = views_of(params)
        s.run.note(params.evolve.model_dump(), datasets=describe_datasets(meta, "training"))
        with s.progress("evolve", total) as steps, remedy(PREPARE):
            if 0 < (known := len(known_scores(folder))) < total:
                console.print(f"evolve: continuing at candidate {known + 1} of {total}")
            done = itertools.count(1)

            def on_record(record: Record, known: bool) -> None:
                c = record.candidate
                doing = f"scoring {c.rescored} again" if c.rescored else f"generation {c.generation}, candidate {c.index}"
                F = "no better than chance" if record.score.dead else f"F {record.fitness:.3f} (lower is better)"
                steps.at(next(done), f"{doing}: {F}", resumed=known)

            found = run(params, PREPARED, folder, on_record, partial(note_generation, s.run, params))
            n = len(found.records)  # there may be fewer to score again than was thought
            steps.at(n, Searched.model_validate(found.metrics).fitness_in_words(), total=n)
        write_outputs(found, params)
        assert found.best is not None  # only what is not searched has none
        labels = [row_of(record, params).child for record in found.records]
        note_ranks(s.run, found.records, labels, found.best.candidate, params)
        elsewhere = {"best_generation", "best_index"}  # noted by generation
        s.run.note(metrics={name: value for name, value in found.metrics.items() if name not in elsewhere})
        drawn = draw(found, folder / WORK)
        for path in (OUT / "candidates.csv", GENOTYPE, *([CONTROLS] if found.controls else []), *drawn):
            s.run.artifact(path)
        delete_folder(folder / WORK)
        s.run.finish(OUT / "metrics.json")


def write_outputs(evolved: Evolved, params: Params) -> None:
    """Write genotype.json, and the table and metrics under reports/evolve."""
    write_json(GENOTYPE, evolved.genotype.model_dump())
    CONTROLS.unlink(missing_ok=True)
    if evolved.controls:
        write_json(CONTROLS, evolved.controls.model_dump())
    write_atomically(OUT / "candidates.csv", csv_text(table(evolved.records, evolved.best, params), COLUMNS))
    write_json(OUT / "metrics.json", evolved.metrics)


def draw(evolved: Evolved, folder: Path) -> list[Path]:
    """Draw the genes as report does, into files in ``folder``."""
    import pandas as pd  # here, since these take a second to load

    from pipelines.reporting.page import search_figures

    svgs = search_figures(pd.read_csv(OUT / "candidates.csv"), evolved.genotype)
    for name, svg in svgs.items():
        write_atomically(folder / f"{name}.svg", svg)
    return [folder / f"{name}.svg" for name in svgs]


if __name__ == "__main__":
    main()
