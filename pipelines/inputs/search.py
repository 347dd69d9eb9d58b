"""What evolve searches, and the file that its search starts from: `evolve.start`, a genotype of an earlier evolve."""

import inspect
from dataclasses import replace
from pathlib import Path

from gee_core.config import NetworkStructure, Params
from gee_core.config.genes import SETTINGS
from gee_core.config.network import is_own, registered
from gee_core.data.meta import load_meta
from gee_core.errors import InputError
from gee_core.evolution.price import Allowance, pricing
from gee_core.evolution.search_vector import SearchSpace
from gee_core.genome.genotype import Genotype, configured_genotype
from gee_core.storage.json_object import read_json_model
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.project.paths import check_in_inputs
from pipelines.runtime.input_errors import TRACKED, remedy


def search_space(params: Params, prepared: Path | None = None) -> SearchSpace:
    """The genes that evolve draws, around its start. An own network is registered before.

    With the images in ``prepared``, candidates are priced, and `evolve.budget` decides their width.

    Raises:
        InputError: the start is unusable, an own network does not take a gene, or no width of the start is within the budget.
    """
    name, genes = params.network.name, params.searched_genes()
    if is_own(name):
        settings = NetworkStructure.model_fields.keys() - {"n_genes"}
        taken = inspect.signature(registered(name).build).parameters
        solved = ("width",) if params.evolve.solves_width else ()
        for gene in (gene for gene in (*genes, *solved) if gene in settings and gene not in taken):
            problem = f"evolve.genes = {params.evolve.genes} searches {gene}, which {name} does not take"
            raise InputError(problem, f"give it an argument {gene}, or leave the gene out")
    start = start_genotype(params)
    space = SearchSpace(genes, start, params.evolve.bound, params.network)
    if prepared is None or not params.evolve.counts:
        return space
    return replace(space, allowance=_allowance(params, prepared, space))


def _allowance(params: Params, prepared: Path, space: SearchSpace) -> Allowance:
    """`evolve.budget` in numbers. An InputError where the start of the search is outside, or outside at any width."""
    from gee_core.model.wired import plain_parameters  # loads torch

    budget, solves = params.evolve.budget, params.evolve.solves_width
    assert budget is not None
    price = pricing(params.network, prepared, (params.evaluate.e_mac, params.evaluate.e_ac))
    of_plain = plain_parameters(params.network, load_meta(prepared))
    allowance = Allowance(budget.limits(price(space.start).energy_uj, of_plain), price, solves)
    narrowed = price(replace(space, allowance=allowance).genotype(space.start_vector()))
    if over := allowance.exceeded(narrowed):
        cost = max(over, key=lambda name: over[name])
        which = "narrowest network" if solves else "start"
        if cost == "own_ratio":
            more = f"{narrowed.own_ratio:.3g} times the parameters of the same with plain weights"
            raise InputError(f"evolve.budget: the {which} has {more}", "add n_genes to evolve.genes, or lower network.n_genes")
        needs = f"the {which} has {cost} = {getattr(narrowed, cost):,.6g}"
        others = "" if solves else "add width to evolve.genes, or "
        remedy = ("lower network.T, or " if cost == "steps" else others) + "raise the limit"
        raise InputError(f"evolve.budget: {needs}, the limit is {allowance.limits[cost]:,.6g}", remedy)
    return allowance


def narrowed_plain(params: Params, space: SearchSpace, prepared: Path, factor: float) -> float:
    """The width at which the plain network is within the budget, where a training changes its energy by ``factor``."""
    assert space.allowance is not None
    network = params.network.model_copy(update={"n_genes": None})
    price = pricing(network, prepared, (params.evaluate.e_mac, params.evaluate.e_ac))
    start = Genotype(1.0, (), settings=(("width", network.width),))
    plain = SearchSpace((), start, space.bound, network, replace(space.allowance, price=price))
    return dict(plain.fitted(start, factor).settings)["width"]


def check_search(params: Params) -> None:
    """Check what is known before the network is built: the search on a network of the table, the start's file of an own one."""
    if is_own(params.network.name):
        load_start(params)
    elif params.evolve.searches:
        search_space(params)


def start_genotype(params: Params) -> Genotype:
    """The genotype at which the search starts, by `evolve.start`. Searched genes that it lacks have the values of settings."""
    configured = configured_genotype(params.network)
    start = load_start(params, len(configured.sigma_X))
    if start is None:
        start = configured.with_unit_sigmas() if params.evolve.start == "unit" else configured
    settings = params.evolve.proxy.model_dump(include=set(SETTINGS)) | params.network.model_dump(include=set(SETTINGS))
    genes = (*params.searched_genes(), *(("width",) if params.evolve.solves_width else ()))
    searched = {name: settings[name] for name in genes if name in settings}
    return replace(start, settings=tuple((searched | dict(start.settings)).items()))


def load_start(params: Params, n_encodings: int | None = None) -> Genotype | None:
    """The genotype in `evolve.start`, or None where it names no file. ``n_encodings`` = L + 1, if known, is compared."""
    if params.evolve.start_file is None:
        return None
    path = Path(params.evolve.start_file)
    named = f"evolve.start = {path}"
    check_in_inputs("evolve.start", path)
    with remedy("name a genotype.json of an earlier evolve, or `analytic`"):
        try:
            file = read_json_model(path, GenotypeFile)
            genotype = file.genotype
            if genotype is None or not genotype.sigma_X:
                raise ValueError("a plain network has no genes")
        except OSError as error:
            problem = f"{named}: cannot be read ({error.strerror})"
            raise InputError(problem, f"copy a genotype.json to it ({TRACKED}), or set `analytic`") from None
        except ValueError as error:
            raise InputError(f"{named}: not a genotype to start at ({error})") from None
        if misfit := file.misfit(params.network):
            raise InputError(f"{named}: a genotype of another search ({misfit})")
        if n_encodings is not None and len(genotype.sigma_X) != n_encodings:
            raise InputError(f"{named}: has {len(genotype.sigma_X)} σ's of encodings, not {n_encodings}")
    if params.network.init is not None and genotype.shape != params.network.shape:
        raise InputError(f"{named}: has a shape of its own, and network.init another", "set network.init to null")
    return genotype


def start_files(params: Params) -> list[Path]:
    """The file in `evolve.start`, if any, that a search depends on."""
    return [] if params.evolve.start_file is None else [Path(params.evolve.start_file)]
