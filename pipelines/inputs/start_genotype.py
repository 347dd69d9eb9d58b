"""`evolve.start`: the genotype of an earlier evolve, from which a search goes on."""

from pathlib import Path

from gee_core.config import Params
from gee_core.errors import InputError
from gee_core.genome.genotype import Genotype
from gee_core.storage.atomic_files import sha256
from gee_core.storage.json_object import read_json_object
from pipelines.project.paths import GENOTYPE

KEYS = ("network", "n_genes", "form")
"""What has to agree between a genotype and the search that starts at it."""


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
        raise InputError(f"{named}: DVC empties {GENOTYPE.parent} before evolve runs: name a copy elsewhere")
    try:
        values = read_json_object(path)
        found = {key: values[key] for key in KEYS}
        sigmas = [values["sigma_O"], *(values["sigma_X"] or [])]
        if not all(type(s) in (int, float) and 0 < s < float("inf") for s in sigmas):
            raise ValueError("its σ's must be positive numbers")
    except OSError as error:
        raise InputError(f"{named}: cannot be read ({error.strerror}): {remedy}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{named}: not a genotype to start at ({error}): {remedy}") from None
    wanted = {"network": params.network.name, "n_genes": params.network.n_genes, "form": params.evolve.genotype}
    if found != wanted:
        raise InputError(f"{named}: a genotype of another search ({found}, not {wanted}): {remedy}")
    if n_encodings is not None and len(sigmas) != 1 + n_encodings:
        raise InputError(f"{named}: has {len(sigmas) - 1} σ's of encodings, not {n_encodings}: {remedy}")
    return Genotype(float(sigmas[0]), tuple(map(float, sigmas[1:])))


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
        before = read_json_object(GENOTYPE).get("start", {})
    except (OSError, ValueError, AttributeError):  # nothing there yet, or damaged, which its stage reports
        return
    if isinstance(before, dict) and before.get("path") == params.evolve.start and before.get("sha256") != start_sha256(params):
        raise InputError(
            f"evolve.start = {params.evolve.start}: its content has changed since the last evolve, which DVC cannot see: "
            "run `dvc repro -f evolve` first, or give the new genotype a new name"
        )
