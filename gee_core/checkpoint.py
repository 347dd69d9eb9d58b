"""Networks and training states on disk: safetensors for numbers, JSON for the rest. Nothing is ever unpickled."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from gee_core.errors import InputError, as_input_error
from gee_core.gene_file import fill_module, read_genes, read_header
from gee_core.model.base import SpikingNetwork
from gee_core.model.wired import check_finite, describe_unchanged, fill_network, read_network
from gee_core.storage.atomic_files import write_atomically, write_json
from gee_core.storage.json_object import read_json_object
from gee_core.storage.tensor_file import DAMAGE
from gee_core.update_file import with_update


def save(path: Path | str, net: nn.Module) -> None:
    """Write a network of ``build_network``, encoded or plain, to ``path``, whose name ends in ``.safetensors``.

    The JSON file next to it holds what ``load`` needs to rebuild the network. Each of the two is written atomically.

    Args:
        path: the file of the numbers.
        net: the network. It is not changed.

    Raises:
        ValueError: ``net`` was not made by ``build_network``, or changed since in more than its numbers.
        DivergedError: a weight or gene is not finite.
        InputError: the file cannot be written.

    Examples:
        >>> gee_core.save("net.safetensors", gee_core.build_network("cifarnet", num_classes=10, n_genes=8, width=0.125))
    """
    path = Path(path)
    check_name(path)
    architecture = describe_unchanged(net)
    save_tensors(path, check_finite(path, net.state_dict()), architecture.model_dump())


def check_name(path: Path) -> None:
    """InputError where a checkpoint ``path`` or its JSON file could take the place of another file."""
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a checkpoint and the JSON file beside it share its name", "let it end in .safetensors")


def load(path: Path | str) -> SpikingNetwork:
    """The network that ``save`` or ``save_genes`` wrote, with its weights, on the CPU and in training mode.

    A file of ``save_genes`` stands alone. Its numbers are dequantised, and the network is encoded as it was when it was saved.

    Args:
        path: the file, whose name ends in ``.safetensors``.

    Returns:
        The network.

    Raises:
        InputError: a file is missing or damaged, or holds an own network that is not registered.
        DivergedError: the weights are not finite.

    Examples:
        >>> gee_core.load("net.safetensors").genome.n_genes
        8
    """
    path = Path(path)
    header = read_header(path)
    return load_pair(path) if header is None else read_genes(path, header)


def load_genes(path: Path | str, net: nn.Module | None = None, update: Path | str | None = None) -> nn.Module:
    """What the file ``path`` of ``save_genes`` holds, dequantised: a network, with an ``update`` or without, or a module.

    Args:
        path: the file.
        net: where it holds a module that ``build_network`` did not make, a fresh, plain one, made by the code that made the
            saved one. It is not changed.
        update: a file that ``save_update`` wrote for this file.

    Returns:
        The network, as of ``load``. With an update it is for inference: its batch norms have no other statistics than 0 and 1.
        Or an encoded copy of ``net``, in its mode.

    Raises:
        InputError: a file is missing or damaged, its names or shapes are not those of ``net``, or the update is of another
            file of genes.

    Examples:
        >>> def fresh():
        ...     return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3))
        >>> gee_core.save_genes("module.safetensors", gee_core.encode(fresh(), 4, example=torch.zeros(1, 3, 8, 8)))
        >>> gee_core.load_genes("module.safetensors", fresh()).genome.n_genes
        4
    """
    path = Path(path)
    header = read_header(path)
    if net is not None and update is None:
        return fill_module(path, header, net)
    if header is None:
        raise InputError(f"{path}: a checkpoint, not a file of gee_core.save_genes", "read it with gee_core.load")
    base = read_genes(path, header)
    return base if update is None else with_update(Path(update), base, header.sha256)


def load_pair(path: Path) -> SpikingNetwork:
    """The network in the two files of ``save``."""
    tensors, saved = load_tensors(path)
    return fill_network(path, read_network(path, saved), {name: tensor.clone() for name, tensor in tensors.items()})


def save_tensors(path: Path, tensors: dict[str, Tensor], meta: dict[str, object]) -> None:
    """Write ``tensors`` to ``path``, and ``meta`` with the checksum of both to the JSON file next to it, each atomically."""
    content = to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_atomically(path, content)
    write_json(path.with_suffix(".json"), meta | {"sha256": _with_meta(hashlib.sha256(content), meta)})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the meta that ``save_tensors`` wrote. InputError unless both files are what it wrote."""
    meta_path = path.with_suffix(".json")
    for file in (path, meta_path):
        if not file.is_file():
            raise InputError(f"{file}: not found", "put it there: gee_core.save wrote both files")
    with as_input_error(f"{path}: damaged, as is {meta_path.name}"):
        meta = read_json_object(meta_path)
    checksum = meta.pop("sha256", None)
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256")
    # Until version 0.2 the checksum was that of the tensors alone.
    if checksum not in (digest.hexdigest(), _with_meta(digest, meta)):
        raise InputError(f"{path}: damaged, its checksum is not the one in {meta_path.name}")
    with as_input_error(f"{path}: damaged", DAMAGE):
        return load_file(path), meta


def _with_meta(digest: "hashlib._Hash", meta: dict[str, object]) -> str:
    """The checksum of the tensors' bytes, which ``digest`` has seen, followed by the canonical JSON of ``meta``."""
    both = digest.copy()
    both.update(json.dumps(meta, sort_keys=True).encode())
    return both.hexdigest()
