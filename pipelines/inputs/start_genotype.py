"""`evolve.start`: the genotype of an earlier evolve, from which a search goes on."""

from pathlib import Path

from gee_core.config import Params
from gee_core.errors import InputError
from gee_core.genome.genotype import Genotype
from gee_core.storage.atomic_files import sha256
from pipelines.inputs.genotype_file import read_genotype_file
from pipelines.project.paths import GENOTYPE


def load_start(params: Params, n_encodings: int | None = None) -> Genotype | None:
    """The σ's in `evolve.start`; None where it is null. ``n_encodings`` = L + 1, where the network is there to compare.

    Raises:
        InputError: the file is missing, damaged, of another network or form, or lies where DVC deletes it.
    """
    if params.evolve.start is None:
        return None
    path = Path(params.evolve.start)
    named, remedy = f"evolve.start = {path}", "name a genotype.json of an earlier evolve, or null"
    if path.resolve().is_relative_to(GENOTYPE.parent.resolve()):
        raise InputError(f"{named}: DVC empties {GENOTYPE.parent} before evolve runs", "name a copy elsewhere")
    try:
        found = read_genotype_file(path)
    except OSError as error:
        raise InputError(f"{named}: cannot be read ({error.strerror})", remedy) from None
    except ValueError as error:
        raise InputError(f"{named}: not a genotype to start at ({error})", remedy) from None
    if found.genotype is None:
        raise InputError(f"{named}: not a genotype to start at (a plain network has no σ's)", remedy)
    wanted = {"network": params.network.name, "n_genes": params.network.n_genes, "form": params.evolve.genotype}
    if (values := found.model_dump(include=set(wanted))) != wanted:
        raise InputError(f"{named}: a genotype of another search ({values}, not {wanted})", remedy)
    if n_encodings is not None and len(found.genotype.sigma_X) != n_encodings:
        raise InputError(f"{named}: has {len(found.genotype.sigma_X)} σ's of encodings, not {n_encodings}", remedy)
    return found.genotype


def start_files(params: Params) -> list[Path]:
    """The file that a search depends on besides the images, if any."""
    return [] if params.evolve.start is None else [Path(params.evolve.start)]


def start_sha256(params: Params) -> str | None:
    """What tells one content of `evolve.start` from another, since its path does not; None where it is null."""
    return None if params.evolve.start is None else sha256(Path(params.evolve.start))


def check_unchanged(params: Params) -> None:
    """See to it, before any stage runs, that DVC will notice another `evolve.start`: it watches the path alone.

    Raises:
        InputError: its content is no longer that of the last evolve.
    """
    try:
        before = read_genotype_file(GENOTYPE).start
    except (OSError, ValueError):  # not written yet, or damaged, which the stage reports
        return
    if before is not None and before.path == params.evolve.start and before.sha256 != start_sha256(params):
        raise InputError(
            f"evolve.start = {params.evolve.start}: its content has changed since the last evolve, which DVC cannot see",
            "run `dvc repro -f evolve` first, or give the new genotype a new name",
        )
