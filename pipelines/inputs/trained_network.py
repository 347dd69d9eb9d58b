"""Loads the trained network for the stages after train."""

from contextlib import AbstractContextManager
from pathlib import Path

from gee_core.checkpoint import load_pair
from gee_core.config import NetworkConfig, Params
from gee_core.data.meta import Meta
from gee_core.errors import DivergedError, InputError
from gee_core.gene_file import load_genes, read_header
from gee_core.model.network import SpikingNetwork
from gee_core.model.wired import architecture_of
from pipelines.inputs.own_network import register_if_configured
from pipelines.inputs.remedies import remedy
from pipelines.project.paths import CHECKPOINT


def load_trained(params: Params, meta: Meta, checkpoint: Path = CHECKPOINT) -> SpikingNetwork:
    """`load_configured`, in evaluation mode."""
    return load_configured(checkpoint, params.network, meta).eval()


def load_configured(path: Path, network: NetworkConfig, meta: Meta) -> SpikingNetwork:
    """The network in ``path``, checked to be the configured one.

    Raises:
        InputError: the file is missing, damaged, or holds another network.
    """
    net, _ = load_checkpoint(path)
    saved = architecture_of(net).model_dump()
    sizes = {key: getattr(meta, key) for key in ("num_classes", "in_channels", "image_size")}
    found = saved.pop("network") | saved
    wanted = network.structure().model_dump() | sizes
    differing = [f"{key} is {found[key]!r}, not {value!r}" for key, value in wanted.items() if found[key] != value]
    if differing:
        raise InputError(f"{path}: a checkpoint of another network ({'; '.join(differing)})", "run `dvc repro train`")
    return net


def load_checkpoint(path: Path, register: bool = False) -> tuple[SpikingNetwork, dict | None]:
    """The network in ``path``, as of ``gee_core.load``, and the card of a file of genes.

    Errors have remedies: this project's for its own checkpoint, a user's for any other file.

    Args:
        path: a checkpoint or a file of genes.
        register: make its own network known first, if params.yaml names it.
    """
    ours, its_json = path.resolve() == CHECKPOINT.resolve(), path.with_suffix(".json")
    made = "`dvc repro` makes it, `dvc pull` fetches it"

    def again(what: str) -> AbstractContextManager[None]:
        return remedy("delete both, then `dvc repro`" if ours else f"copy {what} again, or save the network again")

    if path.is_dir() and not ours:
        raise InputError(f"{path}: is a folder", "name the .safetensors file in it")
    if not path.is_file():
        raise InputError(f"{path}: not found", made if ours else "check its name")
    with again("it"):
        header = read_header(path)
    if header is None and not its_json.is_file():
        raise InputError(f"{its_json}: not found", made if ours else "copy it there too: a checkpoint is both files")
    if register:
        register_if_configured(path, header)
    try:
        with again("both files" if header is None else "it"):
            return (load_pair(path), None) if header is None else (load_genes(path, header), header.card)
    except DivergedError as error:
        error.remedy = "lower train.lr, then `dvc repro train`" if ours else "train it again with a lower learning rate"
        raise
