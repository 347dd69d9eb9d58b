"""What evolve searches, and the file that its search starts from: `evolve.start`, a genotype of an earlier evolve."""

import inspect
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gee_core.config import NetworkStructure, Params
from gee_core.config.genes import SETTINGS
from gee_core.config.network import is_own, registered
from gee_core.errors import InputError
from gee_core.evolution.search_vector import SearchSpace
from gee_core.genome.genotype import Genotype, configured_genotype
from gee_core.storage.json_object import read_json_model
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.project.paths import check_in_inputs
from pipelines.runtime.input_errors import TRACKED, remedy

if TYPE_CHECKING:
    from gee_core.model.wired import ImageShape


def search_space(params: Params, images: "ImageShape | None" = None) -> SearchSpace:
    """The genes that evolve searches, around its start. An own network is registered before.

    With ``images``, candidates have no more genes than fit into `evolve.budget`.

    Raises:
        InputError: the start is unusable, or an own network does not take a gene.
    """
    name, genes = params.network.name, params.searched_genes()
    if is_own(name):
        settings = NetworkStructure.model_fields.keys() - {"n_genes"}
        taken = inspect.signature(registered(name).build).parameters
        for gene in (gene for gene in genes if gene in settings and gene not in taken):
            problem = f"evolve.genes = {params.evolve.genes} searches {gene}, which {name} does not take"
            raise InputError(problem, f"give it an argument {gene}, or leave the gene out")
    budget, fitted = params.evolve.budget, None
    if images is not None and budget is not None:
        from gee_core.evolution.proxy import most_genes  # these load torch
        from gee_core.model.wired import plain_parameters

        most = min(budget.parameters or math.inf, (budget.ratio or math.inf) * plain_parameters(params.network, images))
        fitted = partial(most_genes, meta=images, parameters=most)
    return SearchSpace(genes, start_genotype(params), params.evolve.bound, params.network, fitted)


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
    searched = {name: settings[name] for name in params.searched_genes() if name in settings}
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
