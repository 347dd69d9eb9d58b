"""Evolution: generations of candidates, each scored by a short training run; the best are scored again on fresh draws.

Nothing here trains, logs or writes: the scoring function is an argument, and records are passed to callbacks.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from gee_core.config import EvolveConfig
from gee_core.evolution.candidate import Candidate, Key, Record, Score, SearchState
from gee_core.evolution.fitness import fitness, regulariser_decay
from gee_core.evolution.front import point
from gee_core.evolution.search import CmaEs, Nsga2, RandomSearch, Search
from gee_core.evolution.search_vector import SearchSpace
from gee_core.evolution.winner import candidates_to_rescore
from gee_core.seeding import derive_seed

Results = Iterator[tuple[Candidate, Score, float]]
ScoreAll = Callable[[list[Candidate]], Results]
"""Scores candidates in any order; yields (candidate, score, seconds) as each is done."""

Known = Mapping[Key, tuple[Score, float]]
"""Scores and seconds by ``Candidate.key``."""


def n_candidates(cfg: EvolveConfig, space: SearchSpace) -> int:
    """How many candidates ``evolve`` scores: those of the search, and at most so many again."""
    of_search = cfg.population(len(space.genes)) * cfg.n_generations if cfg.searches else 1
    if cfg.rescore is None:
        return of_search
    has_mean = cfg.searches and not cfg.several and cfg.variant != "random_search"
    return of_search + (min(cfg.rescore.top, of_search) + cfg.searches + has_mean) * cfg.rescore.draws


def evolve(
    cfg: EvolveConfig,
    space: SearchSpace,
    seed: int,
    score_all: ScoreAll,
    known: Known | None = None,
    on_record: Callable[[Record], None] = lambda record: None,
    on_generation: Callable[[list[Record]], None] = lambda records: None,
    on_score: Callable[[Candidate, Score, float], None] = lambda candidate, score, seconds: None,
) -> list[Record]:
    """Run the variant of ``cfg`` and return every record, by generation and index; ``winner.winner`` chooses among them.

    With `evolve.rescore`, the best candidates and the start of the search are scored again on fresh seeds as a further
    generation, number `evolve.n_generations`, of records whose candidates say what they repeat.

    Args:
        cfg: the `evolve` section.
        space: the genes that are searched, and the genotype where the search starts. The variant ``analytic`` scores it alone.
        seed: of the search and of the candidates, which share a seed within a generation.
        score_all: scores candidates of a generation, each up to the epochs it names.
        known: scores and seconds, by ``Candidate.key``, that an interrupted run of the same configuration measured. They
            are not measured again, and the result is that of an uninterrupted run.
        on_record: called for every record as soon as it is final, known ones first.
        on_generation: called with a generation's records, by index, once it is complete; also with those scored again.
        on_score: called for every score that was not known, before the record that it results in; with halving, a candidate
            has one per epoch.

    Returns:
        The records, of every candidate one.

    Raises:
        ValueError: `rescore.top` is more than the candidates of a generation.
    """
    if cfg.searches:
        cfg.check_top(len(space.genes))
    score = partial(_score_generation, score_all=score_all, known=known or {}, on_record=on_record, on_score=on_score)
    records: list[Record] = []
    search = _make_search(cfg, space, seed)
    for generation in range(1 if search is None else cfg.n_generations):
        fixed = space.start.with_unit_sigmas() if cfg.variant == "random" else space.start
        genotypes = [fixed] if search is None else [space.genotype(x) for x in search.ask()]
        # a front holds candidates of all generations, which one draw makes comparable
        shared = derive_seed(seed, "generation", 0 if cfg.several else generation) % 2**31
        candidates = [Candidate(generation, index, shared, genotype) for index, genotype in enumerate(genotypes)]
        decay = regulariser_decay(generation, cfg.tau_lambda)
        in_order = score(cfg, candidates, decay, None if search is None else search.state())
        if search is not None:
            F, excess = [r.fitness for r in in_order], [r.score.excess for r in in_order]
            points = [(*point(r, cfg), over) for r, over in zip(in_order, excess, strict=True)] if cfg.several else []
            search.tell(points or ranked_values(F, [r.epochs for r in in_order], excess))
        on_generation(in_order)
        records += in_order
    mean = None if search is None or search.mean is None else space.genotype(search.mean)
    if again := candidates_to_rescore(records, mean, cfg, seed):
        in_order = score(cfg.model_copy(update={"halving": None}), again, records[-1].decay, None)
        on_generation(in_order)
        records += in_order
    return records


def survivors(values: Sequence[float], eta: float) -> list[int]:
    """Positions, in order, of the best ⌈n/η⌉ of n fitness ``values``; ties go to the first, failed ones (NaN) are dropped.

    Source of successive halving: Jamieson, Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization,
    AISTATS 2016. There candidates are independent draws; here they are a generation of CMA-ES, which ranks all of them.
    """
    ok = [position for position, value in enumerate(values) if not math.isnan(value)]
    best = sorted(ok, key=lambda position: (values[position], position))
    return sorted(best[: math.ceil(len(values) / eta)])


def ranked_values(values: Sequence[float], epochs: Sequence[int], excess: Sequence[float]) -> list[float]:
    """Fitness for ``Search.tell``: ``values`` measured after fewer epochs are raised to rank behind those after more.

    Behind them all rank candidates outside of the budget, by their ``excess``. Values of the greatest ``epochs`` within are not
    changed, so none is if no candidate was eliminated or is outside. NaN stays NaN.
    """
    raised, worst = list(map(float, values)), -math.inf
    for rung in sorted(set(epochs), reverse=True):
        group = [i for i, e in enumerate(epochs) if e == rung and not excess[i] and not math.isnan(values[i])]
        if not group:
            continue
        least = min(values[i] for i in group)
        shift = max(0.0, worst + 1.0 - least) if math.isfinite(worst) else 0.0
        for i in group:
            raised[i] = values[i] + shift
        worst = max(worst, *(raised[i] for i in group))
    behind = worst + 1.0 if math.isfinite(worst) else 0.0
    return [behind + over if over else value for value, over in zip(raised, excess, strict=True)]


def _make_search(cfg: EvolveConfig, space: SearchSpace, seed: int) -> Search | None:
    """What draws the candidates within ``space``; None for a variant that does not search."""
    if not cfg.searches:
        return None
    population = cfg.population(len(space.genes))
    if cfg.variant == "random_search":
        return RandomSearch(space.start_vector(), space.bounds(), population, seed)
    if cfg.several:
        return Nsga2(space.start_vector(), len(cfg.objectives), space.bounds(), population, seed)
    return CmaEs(space.start_vector(), cfg.sigma, space.bounds(), population, seed)


def _score_generation(
    cfg: EvolveConfig,
    candidates: list[Candidate],
    decay: float,
    state: SearchState | None,
    score_all: ScoreAll,
    known: Known,
    on_record: Callable[[Record], None],
    on_score: Callable[[Candidate, Score, float], None],
) -> list[Record]:
    """Every candidate's final record, in order; with halving, some end before the last epoch."""
    done: dict[int, Record] = {}

    def end(record: Record) -> None:
        done[record.candidate.index] = record
        on_record(record)

    alive, total = list(candidates), dict.fromkeys((c.index for c in candidates), 0.0)
    for rung in [None] if cfg.halving is None else range(1, cfg.proxy_epochs + 1):  # None: after the last epoch
        measured: dict[int, Record] = {}
        epochs = rung or cfg.proxy_epochs
        for candidate, score, seconds in _score_rung([replace(c, epochs=rung) for c in alive], score_all, known, on_score):
            index, candidate = candidate.index, replace(candidate, epochs=None)
            total[index] += seconds
            F = fitness(score, decay, cfg)
            record = measured[index] = Record(candidate, score, decay, F, total[index], epochs, state)
            if epochs == cfg.proxy_epochs or not record.ok:
                end(record)
        kept = survivors([r.fitness if (r := measured[c.index]).ok else math.nan for c in alive], cfg.halving or 1.0)
        for position, candidate in enumerate(alive):
            if position not in kept and candidate.index not in done:
                end(measured[candidate.index])
        alive = [alive[position] for position in kept]
    return [done[candidate.index] for candidate in candidates]


def _score_rung(candidates: list[Candidate], score_all: ScoreAll, known: Known, on_score: Callable) -> Results:
    yield from ((c, *known[c.key]) for c in candidates if c.key in known)
    missing = [c for c in candidates if c.key not in known]
    for candidate, score, seconds in score_all(missing) if missing else ():
        on_score(candidate, score, seconds)
        yield candidate, score, seconds
