"""The file that a search starts from: `evolve.start`, a genotype of an earlier evolve."""

from dataclasses import replace
from pathlib import Path

from gee_core.config import Params
from gee_core.config.genes import SETTINGS
from gee_core.errors import InputError
from gee_core.genome.genotype import Genotype, configured_genotype
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.inputs.remedies import TRACKED, remedy
from pipelines.project.watched_files import check_in_inputs


def start_genotype(params: Params) -> Genotype:
    """The genotype at which the search starts, by `evolve.start`; searched genes that it lacks have the values of settings."""
    configured = configured_genotype(params.network)
    found = load_start(params, len(configured.sigma_X))
    if found is None:
        found = configured.with_unit_sigmas() if params.evolve.start == "unit" else configured
    settings = params.evolve.model_dump(include=set(SETTINGS)) | params.network.model_dump(include=set(SETTINGS))
    searched = {name: settings[name] for name in params.searched_genes() if name in settings}
    return replace(found, settings=tuple((searched | dict(found.settings)).items()))


def load_start(params: Params, n_encodings: int | None = None) -> Genotype | None:
    """The genotype in `evolve.start`, or None where it names no file; ``n_encodings`` = L + 1, if known, is compared."""
    if params.evolve.start_file is None:
        return None
    path = Path(params.evolve.start_file)
    named = f"evolve.start = {path}"
    check_in_inputs("evolve.start", path)
    with remedy("name a genotype.json of an earlier evolve, or `analytic`"):
        try:
            found = GenotypeFile.read(path)
            genotype = found.genotype
            if genotype is None:
                raise ValueError("a plain network has no genes")
        except OSError as error:
            problem = f"{named}: cannot be read ({error.strerror})"
            raise InputError(problem, f"copy a genotype.json to it ({TRACKED}), or set `analytic`") from None
        except ValueError as error:
            raise InputError(f"{named}: not a genotype to start at ({error})") from None
        if misfit := found.misfit(params.network):
            raise InputError(f"{named}: a genotype of another search ({misfit})")
        if n_encodings is not None and len(genotype.sigma_X) != n_encodings:
            raise InputError(f"{named}: has {len(genotype.sigma_X)} σ's of encodings, not {n_encodings}")
    if params.network.init is not None and genotype.shape != params.network.shape:
        raise InputError(f"{named}: has a shape of its own, and network.init another", "set network.init to null")
    return genotype


def start_files(params: Params) -> list[Path]:
    """The file in `evolve.start`, if any, that a search depends on."""
    return [] if params.evolve.start_file is None else [Path(params.evolve.start_file)]
