"""Evolution: generations of candidates, each scored by a short training run; the best one is the winner.

Nothing here trains, logs or writes: the scoring function is an argument, and records are passed to callbacks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from gee_core.config import EvolveConfig
from gee_core.evolution.candidate import Candidate, Score
from gee_core.evolution.cma_es import Search
from gee_core.evolution.fitness import FIXED, fitness, regulariser_decay
from gee_core.evolution.halving import finalists, ranked_values, rungs, survivors
from gee_core.evolution.search_vector import SearchSpace
from gee_core.genome.genotype import Genotype
from gee_core.seeding import derive_seed


@dataclass(frozen=True)
class Record:
    """A scored candidate."""

    candidate: Candidate
    score: Score
    decay: float
    """λ(t) of its generation."""
    fitness: float
    """F with the λ of its generation; NaN if it failed."""
    seconds: float
    """Wall time of its scoring; 0 if it was not measured."""
    epochs: int = 0
    """Proxy epochs after which it was scored: fewer than the others' if halving eliminated it."""

    @property
    def ok(self) -> bool:
        """Whether the candidate trained and was measured."""
        return self.score.status == "ok"


Results = Iterator[tuple[Candidate, Score, float]]
ScoreAll = Callable[[list[Candidate]], Results]
"""Scores candidates in any order; yields (candidate, score, seconds) as each is done."""

Known = Mapping[tuple[int, ...], tuple[Score, float]]
"""Scores and seconds by ``Candidate.place``."""


def population_size(cfg: EvolveConfig, space: SearchSpace, seed: int) -> int:
    """Candidates per generation: 1 for a variant that does not evolve."""
    return 1 if cfg.variant in FIXED else make_search(cfg, space, seed).population_size


def make_search(cfg: EvolveConfig, space: SearchSpace, seed: int) -> Search:
    """CMA-ES within ``space``, centred on its start."""
    return Search(space.start_vector(), cfg.sigma, space.bounds(), cfg.population_size, seed)


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
    """Run the variant of ``cfg`` and return every record, by generation and index.

    Args:
        cfg: the `evolve` section.
        space: the genes that are searched, and the genotype where the search starts. The variant ``analytic`` scores it alone.
        seed: of the search and of every candidate's wiring.
        score_all: scores candidates of a generation, each up to the epochs it names.
        known: scores and seconds, by ``Candidate.place``, that an interrupted run of the same configuration measured. They
            are not measured again, and the result is that of an uninterrupted run.
        on_record: called for every record as soon as it is final, known ones first.
        on_generation: called with a generation's records, by index, once it is complete.
        on_score: called for every score that was not known, before the record that it results in; with halving, a candidate
            has one per epoch.
    """
    records: list[Record] = []
    for generation, candidates, tell in _generations(cfg, space, seed):
        decay = regulariser_decay(generation, cfg.tau_lambda)
        done = _score_generation(cfg, candidates, decay, score_all, known or {}, on_record, on_score)
        in_order = [done[candidate.index] for candidate in candidates]
        tell(ranked_values([record.fitness for record in in_order], [record.epochs for record in in_order]))
        on_generation(in_order)
        records += in_order
    return records


def _score_generation(
    cfg: EvolveConfig,
    candidates: list[Candidate],
    decay: float,
    score_all: ScoreAll,
    known: Known,
    on_record: Callable[[Record], None],
    on_score: Callable[[Candidate, Score, float], None],
) -> dict[int, Record]:
    """Every candidate's final record, by index; with halving, some end before the last epoch."""
    done: dict[int, Record] = {}

    def end(record: Record) -> None:
        done[record.candidate.index] = record
        on_record(record)

    alive, total = list(candidates), dict.fromkeys((c.index for c in candidates), 0.0)
    for rung in rungs(cfg.proxy_epochs, cfg.halving):
        measured: dict[int, Record] = {}
        epochs = rung or cfg.proxy_epochs
        for candidate, score, seconds in _score_rung([replace(c, epochs=rung) for c in alive], score_all, known, on_score):
            index, candidate = candidate.index, replace(candidate, epochs=None)
            total[index] += seconds
            record = measured[index] = Record(candidate, score, decay, _fitness(score, decay, cfg), total[index], epochs)
            if epochs == cfg.proxy_epochs or not record.ok:
                end(record)
        kept = survivors([measured[c.index].fitness for c in alive], cfg.halving or 1.0)
        for position, candidate in enumerate(alive):
            if position not in kept and candidate.index not in done:
                end(measured[candidate.index])
        alive = [alive[position] for position in kept]
    return done


def _score_rung(candidates: list[Candidate], score_all: ScoreAll, known: Known, on_score: Callable) -> Results:
    missing = [c for c in candidates if c.place not in known]
    yield from ((c, *known[c.place]) for c in candidates if c.place in known)
    for candidate, score, seconds in score_all(missing) if missing else ():
        on_score(candidate, score, seconds)
        yield candidate, score, seconds


def _generations(
    cfg: EvolveConfig, space: SearchSpace, seed: int
) -> Iterable[tuple[int, list[Candidate], Callable[[list[float]], None]]]:
    def candidate(generation: int, index: int, genotype: Genotype) -> Candidate:
        return Candidate(generation, index, derive_seed(seed, "candidate", generation, index) % 2**31, genotype)

    if cfg.variant in FIXED:
        start = space.start
        fixed = start if cfg.variant == "analytic" else replace(start, sigma_O=1.0, sigma_X=(1.0,) * len(start.sigma_X))
        yield 0, [candidate(0, 0, fixed)], lambda values: None
        return
    search = make_search(cfg, space, seed)
    for generation in range(cfg.n_generations):
        genotypes = [space.genotype(x) for x in search.ask()]
        yield generation, [candidate(generation, i, genotype) for i, genotype in enumerate(genotypes)], search.tell


def _fitness(score: Score, decay: float, cfg: EvolveConfig) -> float:
    return fitness(score.L_ce, score.R_T, score.R_S, decay, cfg.a, cfg.b, cfg.variant)


def winner(records: list[Record], cfg: EvolveConfig) -> Record:
    """The record with the least fitness at the last generation's λ, among those that trained longest.

    Paper: silent. Here: one λ for all, because λ falls from generation to generation: with their own λ, candidates of the
    first generation would win by their larger reward alone. Candidates that halving eliminated were scored too early.

    Raises:
        ValueError: every candidate failed.
    """
    final = [records[i] for i in finalists((r.epochs for r in records), (r.ok for r in records))]
    if not final:
        raise ValueError(f"all {len(records)} candidates failed; the first: {records[0].score.status}")
    decay = records[-1].decay
    return min(final, key=lambda record: _fitness(record.score, decay, cfg))
