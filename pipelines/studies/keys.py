"""Computes the key of a cell's result: a hash of everything that influences it, and of nothing else."""

from gee_core.config import Params
from gee_core.data.meta import Meta
from gee_core.storage.atomic_files import sha256
from gee_core.storage.checksummed_json import json_digest
from pipelines.inputs.init_checkpoint import init_from_files
from pipelines.inputs.network_files import network_files
from pipelines.inputs.start_genotype import start_files


def cell_key(
    params: Params,
    meta: Meta,
    stages: tuple[str, ...],
    candidate: int | None = None,
    encoded: Params | None = None,
    training: int | None = None,
) -> str:
    """16 hexadecimal digits of the sections that the cell's stages read and of its images.

    The code is left out, so that an edit invalidates no results (each names its commit), and so is the source of the images.
    The key of a plain network, which is not evolved, leaves out `evolve`. Files named by the sections count by content.
    """
    evolved = params.network.n_genes is not None
    sections = ["base", "network", *(["evolve"] if evolved else []), "train", *stages]
    images = {name: value for name, value in meta.model_dump().items() if name != "source"}
    values = {name: getattr(params, name).model_dump() for name in sections} | {"images": images, "candidate": candidate}
    if encoded is not None:
        values["encoded"] = encoded.model_dump(include={"base", "network", "train"})
    if training is not None:
        values["training"] = training
    own = network_files(params.network.name)
    if named := [*(start_files(params) if evolved else []), *init_from_files(params), *own]:
        values["files"] = [sha256(path) for path in named]
    return json_digest(values)
