"""Loads the prepared images and trained networks, and encodes a plain one."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from PIL import Image
from rich.table import Table

from gee_core.checkpoint import load_pair
from gee_core.config import Params
from gee_core.data.meta import Meta
from gee_core.data.prepared import Prepared, load_prepared
from gee_core.data.recordings import as_picture
from gee_core.errors import DivergedError, InputError
from gee_core.gene_file import read_genes, read_header
from gee_core.genome.compress import compress
from gee_core.model.base import SpikingNetwork
from gee_core.model.wired import architecture_of
from gee_core.training.loop import Images
from pipelines.inputs.own_network import register_if_configured
from pipelines.project.paths import CHECKPOINT, PREPARED
from pipelines.runtime.input_errors import PREPARE, remedy


def prepared_images(folder: Path = PREPARED) -> Prepared:
    """The prepared images."""
    with remedy(PREPARE):
        return load_prepared(folder)


def spaced(images: Images, n: int) -> Images:
    """``n`` of ``images`` (all if there are fewer), evenly spaced, since they may be sorted by class."""
    return images.subset(evenly(len(images), n))


def evenly(n: int, most: int) -> torch.Tensor:
    """At most ``most`` of ``n`` places, evenly spaced."""
    return torch.linspace(0, n - 1, min(most, n)).long()


def png(image: torch.Tensor, side: int = 2**16) -> bytes:
    """An image (C, H, W), or the frames (T, P, H, W) of a recording side by side, as PNG of at most ``side`` pixels a side."""
    pixels = as_picture(image.numpy()) if image.ndim == 4 else image.permute(1, 2, 0).squeeze(-1).numpy()
    picture, file = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((side, side))
    picture.save(file, "PNG")
    return file.getvalue()


def load_trained(params: Params, meta: Meta, checkpoint: Path = CHECKPOINT) -> SpikingNetwork:
    """The network in ``checkpoint``, checked to be the configured one for the images ``meta``, in evaluation mode.

    Raises:
        InputError: the file is missing, damaged, or holds another network.
    """
    net, _ = load_checkpoint(checkpoint)
    sizes = {key: getattr(meta, key) for key in ("num_classes", "in_channels", "image_size")}
    wanted = params.network.structure().model_dump() | sizes
    if differing := differences(net, wanted):
        raise InputError(f"{checkpoint}: a checkpoint of another network ({differing})", "run `dvc repro train`")
    return net.eval()


def differences(net: SpikingNetwork, wanted: Mapping[str, object]) -> str:
    """The settings and sizes of ``net`` that are not as ``wanted``, by name. Empty if there are none."""
    saved = architecture_of(net).model_dump()
    theirs = saved.pop("network") | saved
    return "; ".join(f"{key} is {theirs[key]!r}, not {value!r}" for key, value in wanted.items() if theirs[key] != value)


def load_checkpoint(path: Path, register: bool = False) -> tuple[SpikingNetwork, dict[str, object] | None]:
    """The network in ``path``, as of ``gee_core.load``, and the card of a file of genes.

    Errors have remedies: this project's for its own checkpoint, a user's for any other file.

    Args:
        path: a checkpoint or a file of genes.
        register: make its own network known first, if params.yaml names it.
    """
    ours = os.path.realpath(path) == os.path.realpath(CHECKPOINT)  # resolve() raises where a link leads to itself
    absent = "`dvc repro` makes it, `dvc pull` fetches it" if ours else "check its name: a checkpoint is both files"
    if path.is_dir() and not ours:
        raise InputError(f"{path}: is a folder", "name the .safetensors file in it")
    with remedy("delete both, then `dvc repro`" if ours else "copy it again, or save the network again"):
        header = read_header(path) if path.is_file() else None
        for file in (path, path.with_suffix(".json")) if header is None else ():
            if not file.is_file():
                raise InputError(f"{file}: not found", absent)
        if register:
            register_if_configured(path, header)
        try:
            return (load_pair(path), None) if header is None else (read_genes(path, header), header.card)
        except DivergedError as error:
            error.remedy = "lower train.lr, then `dvc repro train`" if ours else "train it again with a lower learning rate"
            raise


def compressed(net: SpikingNetwork, n_genes: int) -> tuple[SpikingNetwork, dict[str, float]]:
    """The encoded copy of ``net``, and the relative error of each encoded layer by its name."""
    encoded, errors = compress(net, n_genes, convs=net.conv_chain())
    names = {module: name for name, module in net.named_modules()}
    return cast(SpikingNetwork, encoded), dict(zip((names[conv] for conv in net.conv_chain()[1:]), errors, strict=True))


def error_table(errors: dict[str, float]) -> Table:
    """The relative error ‖W - Ŵ‖ / ‖W‖ of every encoded layer, as a table for a terminal."""
    table = Table("layer", "relative error")
    for layer, error in errors.items():
        table.add_row(layer, f"{error:.2g}" if error < 0.01 else f"{error:.3f}")
    table.add_section()
    table.add_row("mean", f"{sum(errors.values()) / len(errors):.3f}")
    return table
