"""Loads the trained network for the stages after train."""

from pathlib import Path

from gee_core.checkpoint import load
from gee_core.config import NetworkConfig, Params
from gee_core.data.meta import Meta
from gee_core.errors import DivergedError, InputError
from gee_core.gene_file import is_gene_file
from gee_core.model.network import SpikingNetwork
from gee_core.model.wired import architecture_of
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
    net = load_checkpoint(path)
    saved = architecture_of(net).model_dump()
    sizes = {key: getattr(meta, key) for key in ("num_classes", "in_channels", "image_size")}
    found = saved.pop("network") | saved
    wanted = network.structure().model_dump() | sizes
    differing = [f"{key} is {found[key]!r}, not {value!r}" for key, value in wanted.items() if found[key] != value]
    if differing:
        raise InputError(f"{path}: a checkpoint of another network ({'; '.join(differing)})", "run `dvc repro train`")
    return net


def load_checkpoint(path: Path) -> SpikingNetwork:
    """``checkpoint.load``, with remedies in its errors: this project's for its own checkpoint, a user's for any other file."""
    ours, genes = path.resolve() == CHECKPOINT.resolve(), is_gene_file(path)
    if path.is_dir() and not ours:
        raise InputError(f"{path}: is a folder", "name the .safetensors file in it")
    for file in (path, *([] if genes else [path.with_suffix(".json")])):
        if not file.is_file():
            elsewhere = "check its name" if file == path else "copy it there too: a checkpoint is both files"
            raise InputError(f"{file}: not found", "`dvc repro` makes it, `dvc pull` fetches it" if ours else elsewhere)
    again = f"copy {'it' if genes else 'both files'} again, or save the network again"
    try:
        with remedy("delete both, then `dvc repro`" if ours else again):
            return load(path)
    except DivergedError as error:
        error.remedy = "lower train.lr, then `dvc repro train`" if ours else "train it again with a lower learning rate"
        raise
