"""What evolve searches, and the check that something of it is possible."""

import inspect
from dataclasses import asdict

from gee_core.config import NetworkStructure, Params
from gee_core.config.evolve import Budget
from gee_core.config.genes import STRUCTURE, with_genes
from gee_core.config.known_networks import is_own, registered
from gee_core.errors import InputError
from gee_core.evolution.search_vector import SearchSpace
from pipelines.inputs.own_network import expected_images
from pipelines.inputs.starts import start_genotype


def search_space(params: Params) -> SearchSpace:
    """The genes that evolve searches, around its start."""
    return SearchSpace(params.searched_genes(), start_genotype(params), params.evolve.bound, params.network)


def check_search(params: Params) -> None:
    """Check that network and start have what is searched, and that its least network is within `budget` and `choose`."""
    name, evolve, least = params.network.name, params.evolve, params.network
    genes = params.searched_genes() if params.evolve.searches else ()
    if is_own(name):
        settings = NetworkStructure.model_fields.keys() - {"n_genes"}
        taken = inspect.signature(registered(name).build).parameters
        for gene in (gene for gene in genes if gene in settings and gene not in taken):
            problem = f"evolve.genes = {params.evolve.genes} searches {gene}, which {name} does not take"
            raise InputError(problem, f"give it an argument {gene}, or leave the gene out")
    if genes:
        space = search_space(params)
        low = dict(space.genotype(space.bounds()[0]).settings)
        least = with_genes(least, {gene: low[gene] for gene in STRUCTURE if gene in genes})
    limits = {"budget": evolve.budget, "choose": evolve.choose if evolve.several else None}
    given = {key: of for key, of in limits.items() if isinstance(of, Budget)}
    if not given or least.n_genes is None:
        return
    from gee_core.evolution.price import configured_price  # loads torch

    price = asdict(configured_price(least, expected_images(params.prepare), params.evaluate.e_mac))
    for key, of in given.items():
        for limit in of.exceeded(price):
            possible = f"the least that the searched genes allow is {price[limit]:,.6g}"
            problem = f"evolve.{key}.{limit} = {getattr(of, limit):,}: {possible}"
            raise InputError(problem, "raise it to that or more, or search genes of structure")
