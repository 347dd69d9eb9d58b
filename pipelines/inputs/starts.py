"""The files that a run starts from: `evolve.start`, a genotype of an earlier evolve, and `train.init_from`, a checkpoint."""

import math
from dataclasses import replace
from pathlib import Path

from gee_core.config import Params
from gee_core.config.known_networks import encoded_channels, kernel_positions
from gee_core.errors import InputError
from gee_core.genome.genotype import Genotype, analytic_genotype
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.inputs.remedies import TRACKED, remedy
from pipelines.project.watched_files import check_in_inputs


def analytic_start(params: Params) -> Genotype:
    """The σ's that give the configured network's weights He's variance, with the shape of `network.init`."""
    assert params.network.n_genes is not None  # a plain network does not search
    channels = encoded_channels(params.network.name, params.network.width)
    analytic = analytic_genotype(channels, params.network.n_genes, kernel_positions(params.network.name))
    return replace(analytic, shape=params.network.shape)


def start_genotype(params: Params) -> Genotype:
    """The genotype at which the search starts, by `evolve.start`."""
    analytic = analytic_start(params)
    found = load_start(params, len(analytic.sigma_X))
    if params.evolve.start == "unit":
        return analytic.with_unit_sigmas()
    return found or analytic


def load_start(params: Params, n_encodings: int | None = None) -> Genotype | None:
    """The genotype in `evolve.start`, or None where it names no file; ``n_encodings`` = L + 1, if known, is compared."""
    if params.evolve.start == "unit":
        _check_reach(params)
    if params.evolve.start_file is None:
        return None
    path = Path(params.evolve.start_file)
    named = f"evolve.start = {path}"
    check_in_inputs("evolve.start", path)
    with remedy("name a genotype.json of an earlier evolve, or `analytic`"):
        try:
            found = GenotypeFile.read(path)
            if found.genotype is None:
                raise ValueError("a plain network has no σ's")
        except OSError as error:
            problem = f"{named}: cannot be read ({error.strerror})"
            raise InputError(problem, f"copy a genotype.json to it ({TRACKED}), or set `analytic`") from None
        except ValueError as error:
            raise InputError(f"{named}: not a genotype to start at ({error})") from None
        if misfit := found.misfit(params.network, params.evolve.genotype):
            raise InputError(f"{named}: a genotype of another search ({misfit})")
        if n_encodings is not None and len(found.genotype.sigma_X) != n_encodings:
            raise InputError(f"{named}: has {len(found.genotype.sigma_X)} σ's of encodings, not {n_encodings}")
    if params.network.init is not None and found.genotype.shape != params.network.shape:
        raise InputError(f"{named}: has a shape of its own, and network.init another", "set network.init to null")
    return found.genotype


def _check_reach(params: Params) -> None:
    """Check that a search which starts at σ = 1 has the analytic σ's within its bounds."""
    if params.evolve.genotype == "shape":
        raise InputError(
            "evolve.start = unit: evolve.genotype = shape keeps σ_O at 1, so that the search cannot reach the analytic σ's",
            "set evolve.start to analytic, or evolve.genotype to per_layer or shared",
        )
    analytic = analytic_start(params)
    logs = [math.log(sigma) for sigma in analytic.sigma_X]
    if params.evolve.genotype == "shared":
        logs = [sum(logs) / len(logs)]
    farthest = max([math.log(analytic.sigma_O), *logs], key=abs)
    if abs(farthest) > math.log(params.evolve.bound):
        raise InputError(
            f"evolve.bound = {params.evolve.bound}: a search from σ = 1 (evolve.start = unit) cannot reach the analytic σ's, "
            f"one of which is {math.exp(farthest):.3g}",
            f"set evolve.bound to {math.ceil(math.exp(abs(farthest)))} or more",
        )


def start_files(params: Params) -> list[Path]:
    """The file in `evolve.start`, if any, that a search depends on."""
    return [] if params.evolve.start_file is None else [Path(params.evolve.start_file)]


def init_from_files(params: Params) -> list[Path]:
    """The checkpoint in `train.init_from` and its .json, if any, that a training run depends on."""
    if params.train.init_from is None:
        return []
    path = Path(params.train.init_from)
    check_in_inputs("train.init_from", path)
    files = [path, path.with_suffix(".json")]
    for file in files:
        if not file.is_file():
            remedy = f"copy the checkpoint of a plain network there, both files ({TRACKED}), or set null"
            raise InputError(f"train.init_from = {path}: {file}: no such file", remedy)
    return files
