"""Evolution: generations of candidates, each scored by a short training run. The best are scored again on fresh draws.

Nothing here trains, logs or writes: the scoring function is an argument, and records are passed to callbacks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from gee_core.config import SearchConfig
from gee_core.config.genes import searched_genes
from gee_core.errors import InputError
from gee_core.evolution.candidate import Candidate, Failure, Key, Price, Record, Score, Scored, failed
from gee_core.evolution.fitness import fitness, regulariser_decay
from gee_core.evolution.price import Allowance
from gee_core.evolution.search import CmaEs, RandomSearch, Search, genotypes_of
from gee_core.evolution.search_vector import SearchSpace
from gee_core.evolution.winner import candidates_to_rescore
from gee_core.genome.genotype import Genotype
from gee_core.seeding import derive_seed

ScoreAll = Callable[[list[Candidate]], Iterator[Scored]]
"""Scores candidates in any order, and yields each when it is done."""

Known = Mapping[Key, tuple[Score, float]]
"""Scores and seconds by ``Candidate.key``."""


def n_candidates(cfg: SearchConfig, space: SearchSpace) -> int:
    """The number of candidates that ``evolve`` scores: of the search, and at most so many that are scored again."""
    of_search = cfg.population(len(space.genes)) * cfg.n_generations if cfg.searches else 1
    if cfg.rescore is None:
        return of_search
    has_mean = cfg.searches and cfg.variant != "random_search"
    return of_search + (min(cfg.rescore.top, of_search) + cfg.searches + has_mean) * cfg.rescore.draws


def evolve(
    cfg: SearchConfig,
    space: SearchSpace | Genotype,
    seed: int,
    score_all: ScoreAll,
    known: Known | None = None,
    on_record: Callable[[Record], None] = lambda record: None,
    on_generation: Callable[[list[Record]], None] = lambda records: None,
    search: Search | None = None,
) -> list[Record]:
    """Run the variant of ``cfg`` and return every record, by generation and index. ``winner.winner`` chooses among them.

    With `evolve.rescore`, the best candidates and the start of the search are scored again on fresh seeds as a further
    generation, number `evolve.n_generations`, of records whose candidates say what they repeat. Under a budget they have the
    width with which the energy that was measured after their training fits.

    Args:
        cfg: the settings of the search.
        space: the genes that are searched, and the genotype where the search starts. The variant ``analytic`` scores it alone.
            A genotype is the start of a search of ``cfg.genes`` within ``cfg.bound``.
        seed: of the search and of the candidates, which share a seed within a generation.
        score_all: scores the candidates of a generation.
        known: scores and seconds, by ``Candidate.key``, that an interrupted run of the same configuration measured. They
            are not measured again, and the result is that of an uninterrupted run.
        on_record: called for every record as soon as its candidate is scored, known ones first.
        on_generation: called with a generation's records, by index, once it is complete, and with the fresh draws.
        search: a fresh one in place of that which ``cfg`` names. It is asked for `evolve.n_generations` generations.

    Returns:
        The records, of every candidate one.

    Raises:
        InputError: ``search`` is no ``Search``, returns no vectors of ``space``, or others than when ``known`` was measured. Or
            ``score_all`` leaves a candidate without a score.

    Examples:
        >>> def score_all(candidates):
        ...     for candidate in candidates:  # here you would train a network of candidate.genotype
        ...         yield candidate, gee_core.Score(L_ce=(candidate.genotype.shape.beta - 1) ** 2), 0.0
        >>> cfg = gee_core.SearchConfig(genes=["beta"], n_generations=8)
        >>> start = gee_core.Genotype(sigma_O=0.1, sigma_X=(0.1, 0.2))
        >>> records = gee_core.evolve(cfg, start, seed=0, score_all=score_all)
        >>> round(gee_core.winner(records, cfg).candidate.genotype.shape.beta, 1)
        1.0
    """
    if isinstance(space, Genotype):
        neuron = "ilif" if "levels" in dict(space.settings) else "lif"
        space = SearchSpace(searched_genes(cfg.genes, len(space.sigma_X), neuron), space, cfg.bound)
    known = known or {}
    places = set() if search is None else {key[:2] for key in known}
    if search is None and cfg.variant == "random_search":
        search = RandomSearch(space, cfg.population(len(space.genes)), seed)
    elif search is None:
        search = CmaEs(space, cfg.sigma, cfg.population(len(space.genes)), seed) if cfg.searches else None
    elif missing := [name for name in ("ask", "tell", "mean", "state") if not hasattr(search, name)]:
        raise InputError(f"search: {type(search).__name__} has no {', '.join(missing)}", "write it as gee_core.Search has it")
    records: list[Record] = []

    def score(candidates: list[Candidate], decay: float, state: dict[str, float]) -> list[Record]:
        done: dict[int, Record] = {}
        for candidate, result, seconds in _results(candidates, score_all, known, space.allowance):
            F = fitness(result, decay, cfg)
            record = done[candidate.index] = Record(candidate, result, decay, F, seconds, cfg.epochs, state)
            on_record(record)
        if lost := [candidate for candidate in candidates if candidate.index not in done]:
            raise InputError(f"score_all: candidate {lost[0].label} has no score", "yield a score of every candidate")
        generation = [done[candidate.index] for candidate in candidates]
        on_generation(generation)
        records.extend(generation)
        return generation

    genotypes, state = [space.start.with_unit_sigmas() if cfg.variant == "random" else space.start], dict[str, float]()
    for generation in range(1 if search is None else cfg.n_generations):
        if search is not None:
            vectors = list(search.ask())
            genotypes, state = genotypes_of(vectors, space, "ask()"), dict(search.state)
        shared = derive_seed(seed, "generation", generation) % 2**31
        candidates = [Candidate(generation, i, shared, genotype, space.price(genotype)) for i, genotype in enumerate(genotypes)]
        if any(c.place in places and c.key not in known for c in candidates):
            others = f"search: ask() returned other candidates in generation {generation} than before the interruption"
            raise InputError(others, "give it a fixed seed, or start without known")
        in_order = score(candidates, regulariser_decay(generation, cfg.tau_lambda), state)
        if search is not None:
            search.tell(vectors, costs(in_order))
    favourite = search.mean if search is not None else None
    mean = None if favourite is None else genotypes_of([favourite], space, "mean")[0]
    if again := candidates_to_rescore(records, mean, cfg, seed, space):
        score(again, records[-1].decay, {})
    return records


def costs(records: Sequence[Record]) -> list[float]:
    """What a search is told of a generation: F, then of the dead their loss, and last of those outside their excess, or NaN.

    The dead cost more than all that have a fitness, and those outside of the budget more than the dead.
    """
    worst = max((r.fitness for r in records if r.fitness == r.fitness), default=0.0)
    dead = [worst + r.score.L_ce if r.score.dead else r.fitness for r in records]
    worst = max((F for F in dead if F == F), default=0.0)
    return [worst + r.score.excess if r.score.excess else F for r, F in zip(records, dead, strict=True)]


def _results(candidates: list[Candidate], score_all: ScoreAll, known: Known, allowance: Allowance | None) -> Iterator[Scored]:
    """The scores of ``candidates``, first of those that are not trained: they are known, or outside of the budget."""
    missing = []
    for c in candidates:
        if allowance and c.price and (over := allowance.exceeded(c.price)):
            yield c, _outside(over, c.price, allowance), 0.0
        elif c.key in known:
            yield (c, *known[c.key])
        else:
            missing.append(c)
    if missing:
        yield from score_all(missing)


def _outside(over: Mapping[str, float], price: Price, allowance: Allowance) -> Score:
    """The score of a network that costs too much."""
    named = ", ".join(f"{name} = {getattr(price, name):,.6g} of {allowance.limits[name]:,.6g}" for name in over)
    return replace(failed("", Failure.BUDGET), status=f"outside: {named}", excess=sum(over.values()))
